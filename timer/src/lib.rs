//! What coring's users see of time: sleep, interval, timeout, wait_for.
