"""What a benchmark needs beside itself."""
