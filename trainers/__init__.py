"""What learns: supervised fine-tuning on plan traces, episode GRPO, the difficulty filter, and recipes."""
