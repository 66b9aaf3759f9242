//! The round-robin harness and the hand-written loops that coring is measured against.
