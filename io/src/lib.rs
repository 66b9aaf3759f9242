//! Sockets and files for coring.
