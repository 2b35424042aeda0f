"""Finding a way in: which access points there are, and how one of them is reached."""
