"""The private list as rules, what its patterns may mean, and how long rules that were lost still hold."""
