//! One file per question: who is driven, what it costs, and what the samples say.

pub(crate) mod affinity;
pub(crate) mod calls;
pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod compare;
pub(crate) mod cpu;
pub(crate) mod host;
pub(crate) mod messages;
pub(crate) mod options;
pub(crate) mod pairs;
pub(crate) mod report;
pub(crate) mod rival;
pub(crate) mod round_robin;
pub(crate) mod server;
pub(crate) mod stats;
pub(crate) mod syscalls;
pub(crate) mod table;
