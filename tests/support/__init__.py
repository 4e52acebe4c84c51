"""What tests share: sample data, guests on disk and in namespaces, images, measurements."""
