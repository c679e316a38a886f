"""`pynet mirror`: a network of the cluster that was made on one host is made on the others, by a process of its own."""
