//! The runtime under coring: driver, operations, tasks, scopes.
