//! What the kernel knows of the network: links, routes, neighbours.
