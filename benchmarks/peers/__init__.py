"""Other servers beside this one: same speech, same weights, same machine."""
