//! What an SQE carries and its CQE brings back: the only place where `user_data` is made.
//!
//! ```text
//!  63    60 59               32 31                            0
//! |  tag   |       index       |          generation           |
//! ```
//!
//! A linked timeout and a cancel carry the token of their operation with another tag: the kernel
//! finds a victim by its whole `user_data`, so they never match it (R4), and they need no slot
//! of their own (R5).

/// Slots are counted in 28 bits: more than memory has room for.
pub(crate) const INDEX_BITS: u32 = 28;
pub(crate) const INDEX_MAX: u32 = (1 << INDEX_BITS) - 1;

/// Names one generation of one slot, and which of its SQEs is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Token(u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tag {
    /// The operation itself.
    Operation = 0,
    /// The timeout linked behind it.
    Timeout = 1,
    /// A request to cancel it.
    Cancel = 2,
    /// Not an operation of the table: `index` is a [`Control`].
    Control = 3,
}

/// SQEs that the runtime sends for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Control {
    /// The poll on the inbox's eventfd.
    Unparker = 0,
    /// The timeout that wakes an embedded loop.
    Timer = 1,
    /// A message from another ring: look at the inbox.
    Message = 2,
    /// A message to another ring that could not be delivered: `generation` is the inbox.
    MessageFailed = 3,
    /// A CQE that nobody looks at.
    Ignored = 4,
}

impl Control {
    pub(crate) const fn of(token: Token) -> Option<Self> {
        match token.index() {
            0 => Some(Self::Unparker),
            1 => Some(Self::Timer),
            2 => Some(Self::Message),
            3 => Some(Self::MessageFailed),
            4 => Some(Self::Ignored),
            _ => None,
        }
    }
}

impl Token {
    pub(crate) const fn operation(index: u32, generation: u32) -> Self {
        Self::pack(Tag::Operation, index, generation)
    }

    pub(crate) const fn control(control: Control, detail: u32) -> Self {
        Self::pack(Tag::Control, control as u32, detail)
    }

    /// The same operation, another of its SQEs.
    pub(crate) const fn with_tag(self, tag: Tag) -> Self {
        Self::pack(tag, self.index(), self.generation())
    }

    const fn pack(tag: Tag, index: u32, generation: u32) -> Self {
        debug_assert!(index <= INDEX_MAX);
        Self((tag as u64) << 60 | (index as u64) << 32 | generation as u64)
    }

    pub(crate) const fn tag(self) -> Option<Tag> {
        match self.0 >> 60 {
            0 => Some(Tag::Operation),
            1 => Some(Tag::Timeout),
            2 => Some(Tag::Cancel),
            3 => Some(Tag::Control),
            _ => None,
        }
    }

    pub(crate) const fn index(self) -> u32 {
        (self.0 >> 32) as u32 & INDEX_MAX
    }

    pub(crate) const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// The `user_data` on the wire.
    pub const fn user_data(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_user_data(user_data: u64) -> Self {
        Self(user_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_round_trip_keeps_every_bit_and_tags_differ() {
        for (index, generation) in [(0, 0), (INDEX_MAX, u32::MAX), (5, 1 << 31)] {
            let token = Token::operation(index, generation);
            assert_eq!((token.index(), token.generation()), (index, generation));
            assert_eq!(token.tag(), Some(Tag::Operation));
            for tag in [Tag::Timeout, Tag::Cancel] {
                let other = token.with_tag(tag);
                assert_ne!(other, token);
                assert_eq!(other.tag(), Some(tag));
                assert_eq!((other.index(), other.generation()), (index, generation));
            }
        }
        assert_eq!(Token::from_user_data(u64::MAX).tag(), None);
    }
}
