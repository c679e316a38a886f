"""What pynet costs beside Docker's own bridge driver, in one run. `make bench`; nothing here is a test."""
