"""What several recognizers use."""
