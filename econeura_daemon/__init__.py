"""One Trio daemon that connects the services of a VM to each other and to the world."""
