"""What the documentation site generates: pages from the code, diagrams and formulas."""
