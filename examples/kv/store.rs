//! The data: keys and values, which are bytes, and when they expire.

use std::hash::BuildHasher;

use coring::Instant;
use hashbrown::{DefaultHashBuilder, HashTable};

/// A record that does not expire.
const NEVER: i64 = i64::MAX;

/// What [`Store::sweep`] looks at before it asks itself whether that was worth while.
const SWEEP_BUCKETS: usize = 4096;
/// How often it goes on at most: 65,536 buckets are a millisecond.
const SWEEPS_MAX: usize = 16;

/// Keys and values.
///
/// Time stands still between two calls of [`set_time`](Self::set_time): a batch of commands sees
/// one moment, and a clock is not asked for each of them.
#[derive(Debug)]
pub(crate) struct Store {
    table: HashTable<Record>,
    /// Seeded for each process, so that nobody can choose keys that collide.
    hasher: DefaultHashBuilder,
    /// Milliseconds on the runtime's clock.
    now: i64,
    /// The bucket that the next sweep begins with.
    next_bucket: usize,
    /// Records that expire.
    volatile: usize,
    expired: u64,
    /// Memory of the records besides the table.
    bytes: usize,
}

/// Bytes of key and value that fit into a record.
const SHORT_MAX: usize = 45;

/// A key and its value. It fills a line of the cache, and a short one is all in there: looking one
/// up among many costs one wait for memory, which is most of what a lookup costs.
#[derive(Debug)]
#[repr(align(64))]
struct Record {
    /// Kept, so that a table that grows does not read each key.
    hash: u64,
    /// The last millisecond of its life.
    expires: i64,
    pair: Pair,
}

const _: () = assert!(size_of::<Record>() == 64);

/// The key, and the value behind it.
#[derive(Debug)]
enum Pair {
    Short {
        key_len: u8,
        len: u8,
        bytes: [u8; SHORT_MAX],
    },
    /// A value that is replaced by one of its size allocates nothing here either.
    Long { key_len: u32, block: Vec<u8> },
}

impl Pair {
    fn new(key: &[u8], value: &[u8]) -> Self {
        let len = key.len() + value.len();
        if len <= SHORT_MAX {
            let mut bytes = [0; SHORT_MAX];
            bytes[..key.len()].copy_from_slice(key);
            bytes[key.len()..len].copy_from_slice(value);
            // Both fit, as does a long key's length: an argument has 512 MiB at most.
            return Self::Short {
                key_len: key.len() as u8,
                len: len as u8,
                bytes,
            };
        }
        let mut block = Vec::with_capacity(len);
        block.extend_from_slice(key);
        block.extend_from_slice(value);
        Self::Long {
            key_len: key.len() as u32,
            block,
        }
    }

    fn split(&self) -> (&[u8], &[u8]) {
        match self {
            Self::Short {
                key_len,
                len,
                bytes,
            } => bytes[..usize::from(*len)].split_at(usize::from(*key_len)),
            Self::Long { key_len, block } => block.split_at(*key_len as usize),
        }
    }

    fn key(&self) -> &[u8] {
        self.split().0
    }

    fn value(&self) -> &[u8] {
        self.split().1
    }

    /// Appends to the value what `kept` bytes of it are in front of.
    fn write(&mut self, kept: usize, tail: &[u8]) {
        match self {
            Self::Short {
                key_len,
                len,
                bytes,
            } => {
                let begin = usize::from(*key_len) + kept;
                let end = begin + tail.len();
                if end <= SHORT_MAX {
                    bytes[begin..end].copy_from_slice(tail);
                    *len = end as u8;
                    return;
                }
                let (key, value) = bytes[..begin].split_at(usize::from(*key_len));
                let mut long = Self::new(key, &[value, tail].concat());
                std::mem::swap(self, &mut long);
            }
            Self::Long { key_len, block } => {
                block.truncate(*key_len as usize + kept);
                block.extend_from_slice(tail);
                // A value that has become much smaller gives memory back.
                if block.capacity() / 4 > block.len() {
                    block.shrink_to_fit();
                }
            }
        }
    }

    /// Memory besides the record.
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long { block, .. } => block.capacity(),
        }
    }
}

/// What a new value does to the time at which its key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    Keep,
    At(i64),
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            now: 0,
            next_bucket: 0,
            volatile: 0,
            expired: 0,
            bytes: 0,
        }
    }

    pub(crate) fn set_time(&mut self, now: Instant) {
        self.now = (now.as_nanos() / 1_000_000) as i64;
    }

    /// Milliseconds on the clock that expiries are told by.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        let bucket = self.find(self.hash(key), key)?;
        self.table
            .get_bucket(bucket)
            .map(|record| record.pair.value())
    }

    pub(crate) fn contains(&mut self, key: &[u8]) -> bool {
        self.find(self.hash(key), key).is_some()
    }

    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) {
        let hash = self.hash(key);
        let Some(bucket) = self.find(hash, key) else {
            self.insert(hash, key, value, expiry);
            return;
        };
        self.write(bucket, 0, value);
        match expiry {
            Expiry::Never => self.set_expiry(bucket, NEVER),
            Expiry::Keep => {}
            Expiry::At(when) => self.set_expiry(bucket, when),
        }
    }

    /// Appends to a value, or makes one: gives its length.
    pub(crate) fn append(&mut self, key: &[u8], tail: &[u8]) -> usize {
        let hash = self.hash(key);
        let Some(bucket) = self.find(hash, key) else {
            self.insert(hash, key, tail, Expiry::Never);
            return tail.len();
        };
        let record = self.table.get_bucket(bucket);
        let len = record.map_or(0, |record| record.pair.value().len());
        self.write(bucket, len, tail);
        len + tail.len()
    }

    /// Whether there was one.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let found = self.find(self.hash(key), key);
        if let Some(bucket) = found {
            self.remove_bucket(bucket);
        }
        found.is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.table = HashTable::new();
        (self.volatile, self.bytes, self.next_bucket) = (0, 0, 0);
    }

    /// When a key expires: `None` without the key, `Some(None)` for one that does not.
    pub(crate) fn expires(&mut self, key: &[u8]) -> Option<Option<i64>> {
        let bucket = self.find(self.hash(key), key)?;
        let record = self.table.get_bucket(bucket)?;
        Some((record.expires != NEVER).then_some(record.expires))
    }

    /// Has a key expire behind that millisecond, or never.
    pub(crate) fn expire_at(&mut self, key: &[u8], when: Option<i64>) {
        if let Some(bucket) = self.find(self.hash(key), key) {
            self.set_expiry(bucket, when.unwrap_or(NEVER));
        }
    }

    /// Removes some of what has expired and nobody asks for. Goes on while a quarter of what it
    /// finds has, and for a millisecond at most: a burst that expires at once is cleared within
    /// some calls, and nobody waits long for one of them.
    pub(crate) fn sweep(&mut self) {
        for _ in 0..SWEEPS_MAX {
            let (mut seen, mut removed) = (0, 0);
            for _ in 0..SWEEP_BUCKETS.min(self.table.num_buckets()) {
                if self.volatile == 0 {
                    return;
                }
                let bucket = self.next_bucket % self.table.num_buckets();
                self.next_bucket = bucket + 1;
                let record = self.table.get_bucket(bucket);
                let Some(record) = record.filter(|record| record.expires != NEVER) else {
                    continue;
                };
                seen += 1;
                if record.expires < self.now {
                    self.expired += 1;
                    self.remove_bucket(bucket);
                    removed += 1;
                }
            }
            if removed * 4 <= seen {
                return;
            }
        }
    }

    /// Keys, with those that have expired and were not found yet.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Keys that expire.
    pub(crate) fn volatile(&self) -> usize {
        self.volatile
    }

    /// Keys that have expired so far.
    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    /// Memory that it has asked for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.table.allocation_size()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The bucket of a key, unless it has expired: then it is removed.
    fn find(&mut self, hash: u64, key: &[u8]) -> Option<usize> {
        let same = |record: &Record| record.hash == hash && record.pair.key() == key;
        let bucket = self.table.find_bucket_index(hash, same)?;
        if self.table.get_bucket(bucket)?.expires < self.now {
            self.expired += 1;
            self.remove_bucket(bucket);
            return None;
        }
        Some(bucket)
    }

    fn insert(&mut self, hash: u64, key: &[u8], value: &[u8], expiry: Expiry) {
        let pair = Pair::new(key, value);
        self.bytes += pair.heap_bytes();
        let expires = match expiry {
            Expiry::At(when) => when,
            Expiry::Never | Expiry::Keep => NEVER,
        };
        self.volatile += usize::from(expires != NEVER);
        let record = Record {
            hash,
            expires,
            pair,
        };
        self.table.insert_unique(hash, record, |record| record.hash);
    }

    /// Puts `tail` behind so many bytes of a value, and counts the memory.
    fn write(&mut self, bucket: usize, kept: usize, tail: &[u8]) {
        if let Some(record) = self.table.get_bucket_mut(bucket) {
            let before = record.pair.heap_bytes();
            record.pair.write(kept, tail);
            self.bytes = self.bytes - before + record.pair.heap_bytes();
        }
    }

    fn set_expiry(&mut self, bucket: usize, when: i64) {
        if let Some(record) = self.table.get_bucket_mut(bucket) {
            self.volatile -= usize::from(record.expires != NEVER);
            self.volatile += usize::from(when != NEVER);
            record.expires = when;
        }
    }

    fn remove_bucket(&mut self, bucket: usize) {
        if let Ok(entry) = self.table.get_bucket_entry(bucket) {
            let (record, _) = entry.remove();
            self.volatile -= usize::from(record.expires != NEVER);
            self.bytes -= record.pair.heap_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: i64) -> Store {
        let mut store = Store::new();
        store.now = now;
        store
    }

    #[test]
    fn values_of_any_size_come_back() {
        let mut store = at(0);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut model = std::collections::HashMap::<Vec<u8>, Vec<u8>>::new();
        for _ in 0..20_000 {
            // Around what a record has room for, and far from it.
            let key = vec![rng.u8(0..4); rng.usize(0..50)];
            let value = vec![rng.u8(..); *rng.choice(&[0, 1, 20, 44, 45, 46, 300]).expect("some")];
            match rng.u8(0..5) {
                0 | 1 => {
                    store.set(&key, &value, Expiry::Never);
                    model.insert(key.clone(), value);
                }
                2 => {
                    let len = store.append(&key, &value);
                    let whole = model.entry(key.clone()).or_default();
                    whole.extend_from_slice(&value);
                    assert_eq!(len, whole.len());
                }
                3 => assert_eq!(store.remove(&key), model.remove(&key).is_some()),
                _ => assert_eq!(store.contains(&key), model.contains_key(&key)),
            }
            assert_eq!(store.get(&key), model.get(&key).map(|value| &value[..]));
            assert_eq!(store.len(), model.len());
        }
        for key in model.keys() {
            assert!(store.remove(key));
        }
        assert_eq!((store.len(), store.bytes), (0, 0), "memory is counted");
    }

    #[test]
    fn keys_are_gone_behind_their_millisecond() {
        let mut store = at(100);
        store.set(b"a", b"1", Expiry::At(110));
        store.set(b"b", b"2", Expiry::Never);
        assert_eq!(store.expires(b"a"), Some(Some(110)));
        assert_eq!(store.expires(b"b"), Some(None));
        assert_eq!(store.expires(b"c"), None);
        assert_eq!((store.len(), store.volatile()), (2, 1));
        store.now = 110;
        assert_eq!(store.get(b"a"), Some(&b"1"[..]));
        store.now = 111;
        assert_eq!(store.get(b"a"), None);
        assert_eq!((store.len(), store.volatile(), store.expired()), (1, 0, 1));
    }

    #[test]
    fn writes_keep_or_lose_the_expiry() {
        let mut store = at(0);
        store.set(b"a", b"1", Expiry::At(10));
        store.set(b"a", b"2", Expiry::Keep);
        store.append(b"a", b"3");
        assert_eq!(store.expires(b"a"), Some(Some(10)));
        store.set(b"a", b"4", Expiry::Never);
        assert_eq!((store.expires(b"a"), store.volatile()), (Some(None), 0));
        store.expire_at(b"a", Some(5));
        store.expire_at(b"a", Some(6));
        assert_eq!((store.expires(b"a"), store.volatile()), (Some(Some(6)), 1));
        store.expire_at(b"a", None);
        assert_eq!((store.expires(b"a"), store.volatile()), (Some(None), 0));
        store.set(b"b", b"1", Expiry::Keep);
        assert_eq!(store.expires(b"b"), Some(None));
        // What has expired is not there to be appended to.
        store.set(b"c", b"1", Expiry::At(3));
        store.now = 4;
        assert_eq!(store.append(b"c", b"2"), 1);
        assert_eq!(store.expires(b"c"), Some(None));
    }

    #[test]
    fn sweeps_clear_what_nobody_asks_for() {
        let mut store = at(0);
        for n in 0..200_000_u32 {
            let expiry = match n % 2 {
                0 => Expiry::At(10),
                _ => Expiry::Never,
            };
            store.set(&n.to_le_bytes(), b"", expiry);
        }
        store.sweep();
        assert_eq!(store.len(), 200_000, "none has expired");
        store.now = 11;
        store.sweep();
        assert!(store.len() > 100_000, "one sweep is bounded");
        for _ in 0..10 {
            store.sweep();
        }
        assert_eq!((store.len(), store.volatile()), (100_000, 0));
        assert_eq!(store.expired(), 100_000);
        store.clear();
        store.sweep();
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn memory_of_a_value_that_shrinks_is_given_back() {
        let mut store = at(0);
        store.set(b"a", &[7; 1 << 20], Expiry::Never);
        assert!(store.bytes() > 1 << 20);
        store.set(b"a", &[7; 100], Expiry::Never);
        assert!(store.bytes() < 4096);
        assert_eq!(store.get(b"a"), Some(&[7; 100][..]));
    }
}
