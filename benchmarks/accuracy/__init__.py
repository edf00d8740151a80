"""How right the text is: whole files, finals and partials of one model side by side, and the errors themselves."""
