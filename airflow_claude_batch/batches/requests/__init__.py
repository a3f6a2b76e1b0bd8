"""From a record of the user's data to the exact line that is sent."""
