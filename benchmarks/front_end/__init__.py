"""Everything but the recognizer: how many sessions one core holds, and what each stage costs."""
