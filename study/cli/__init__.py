"""What each command does, by theme; here `study` and `analysis` are joined."""
