"""What a run does from start to end: plan, features, execution, judging, recording."""
