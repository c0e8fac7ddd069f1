"""Long jobs, killed on the way: folders of pictures, shards of samples, videos."""
