//! Several buffers that are sent as one.

use coring_runtime::IoBuf;

/// Buffers that are written one behind the other by one operation: a `Vec` or an array of buffers
/// of one type, or a tuple of up to four.
///
/// The kernel takes 1,024 of them at the most.
///
/// # Examples
///
/// ```
/// use coring::net::UnixDatagram;
///
/// # coring::run(async {
/// let (ours, theirs) = UnixDatagram::pair()?;
/// let number = 7_u32.to_string();
/// ours.send_vectored(("number ", number)).await.0?;
/// assert_eq!(theirs.recv(Vec::with_capacity(16)).await.1, b"number 7");
/// ours.send_vectored([vec![1_u8], vec![2, 3]]).await.0?;
/// assert_eq!(theirs.recv(Vec::with_capacity(16)).await.1, [1, 2, 3]);
/// # coring::ok(()) }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no list of buffers",
    note = "give a `Vec` or an array of owned buffers, or a tuple like `(Vec<u8>, &'static str)`"
)]
pub trait IoBufs: sealed::Sealed + 'static {}

pub(crate) mod sealed {
    /// Whoever implements this is believed: each part is the bytes of an `IoBuf` that it owns.
    pub trait Sealed {
        /// How many buffers there are.
        fn parts(&self) -> usize;

        /// The bytes of one of them.
        fn part(&self, i: usize) -> &[u8];
    }
}

impl<B: IoBuf> IoBufs for Vec<B> {}

impl<B: IoBuf> sealed::Sealed for Vec<B> {
    fn parts(&self) -> usize {
        self.len()
    }

    fn part(&self, i: usize) -> &[u8] {
        self[i].as_init()
    }
}

impl<B: IoBuf, const N: usize> IoBufs for [B; N] {}

impl<B: IoBuf, const N: usize> sealed::Sealed for [B; N] {
    fn parts(&self) -> usize {
        N
    }

    fn part(&self, i: usize) -> &[u8] {
        self[i].as_init()
    }
}

macro_rules! tuple {
    ($n:literal: $($buf:ident $i:tt),*) => {
        impl<$($buf: IoBuf),*> IoBufs for ($($buf,)*) {}

        impl<$($buf: IoBuf),*> sealed::Sealed for ($($buf,)*) {
            fn parts(&self) -> usize {
                $n
            }

            fn part(&self, i: usize) -> &[u8] {
                match i {
                    $($i => self.$i.as_init(),)*
                    _ => unreachable!("there are {} buffers", $n),
                }
            }
        }
    };
}

tuple!(1: A 0);
tuple!(2: A 0, B 1);
tuple!(3: A 0, B 1, C 2);
tuple!(4: A 0, B 1, C 2, D 3);
