"""What networks cost: FLOPs by formula, parameters, time and memory of what XLA compiles."""
