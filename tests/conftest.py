"""Nothing here: fixtures live beside the tests that use them."""
