"""What hosts tell each other of overlay networks, by way of etcd."""
