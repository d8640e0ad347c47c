import pickle

from gymnasium.spaces import Text

from forethought.envs import AnyText


def test_holds_every_str_and_nothing_else() -> None:
    space = AnyText()
    for text in ("", "naïve 中文 🎈", "\x00\ud800", "x" * 10**6):
        assert text in space
    for other in (None, 1, b"x", ["x"]):
        assert other not in space


def test_samples_are_text_and_depend_on_the_seed() -> None:
    first, second = AnyText(seed=1), AnyText(seed=1)
    samples = [first.sample() for _ in range(50)]
    assert samples == [second.sample() for _ in range(50)]
    assert all(text in first for text in samples)
    assert len(set(samples)) > 1


def test_all_are_equal_also_after_a_journey() -> None:
    assert AnyText(seed=1) == AnyText(seed=2) == pickle.loads(pickle.dumps(AnyText()))
    assert len({AnyText(), AnyText()}) == 1
    assert AnyText() != Text(5)
