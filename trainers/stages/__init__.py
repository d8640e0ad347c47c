"""The stages of a recipe, one a file; `forethought.trainers.pipeline` runs them in order."""
