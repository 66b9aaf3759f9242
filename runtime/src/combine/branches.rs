//! Two to eight branches of different types.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::{Branch, Rule};
use crate::cancel_scope::Since;

/// The branches of a macro: a tuple of them, as a struct whose fields can be pinned.
pub trait Branches<R> {
    /// Polls those that are not over. Ready when all are, with the first that has stopped the
    /// others.
    #[doc(hidden)]
    fn poll_all(self: Pin<&mut Self>, cx: &mut Context<'_>, first: &mut Option<usize>) -> Poll<()>;
}

/// A tuple of futures, two to eight, as [`gather!`](crate::gather!) and [`race!`](crate::race!)
/// take them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of two to eight futures",
    note = "more futures, of one type, go into `gather_all` or `race_all`"
)]
pub trait Futures {
    #[doc(hidden)]
    type Branches;
    #[doc(hidden)]
    fn into_branches(self) -> Self::Branches;
}

macro_rules! branches {
    ($($name:ident: $(($place:tt $future:ident))+;)+) => {
        $(
            pin_project! {
                #[doc(hidden)]
                #[derive(Debug)]
                pub struct $name<$($future: Future),+> {
                    $(
                        #[pin]
                        pub(crate) $future: Branch<$future>,
                    )+
                    begun: Option<Since>,
                }
            }

            impl<$($future: Future),+> Futures for ($($future,)+) {
                type Branches = $name<$($future),+>;

                fn into_branches(self) -> Self::Branches {
                    $name {
                        $($future: Branch::new(self.$place),)+
                        begun: None,
                    }
                }
            }

            impl<R, $($future: Future),+> Branches<R> for $name<$($future),+>
            where
                $(R: Rule<$future::Output>),+
            {
                fn poll_all(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    first: &mut Option<usize>,
                ) -> Poll<()> {
                    let mut this = self.project();
                    let since = *this.begun.get_or_insert_with(Since::now);
                    loop {
                        let mut over = true;
                        let told = first.is_some();
                        $(
                            let mut branch = this.$future.as_mut();
                            if !branch.as_mut().is_over() {
                                if first.is_some() {
                                    branch.as_mut().cancel();
                                }
                                if branch.as_mut().poll_once::<R>(cx, since) {
                                    first.get_or_insert($place);
                                }
                                over &= branch.as_mut().is_over();
                            }
                        )+
                        if over {
                            return Poll::Ready(());
                        }
                        // Those before it are to be asked as well.
                        if told == first.is_some() {
                            return Poll::Pending;
                        }
                    }
                }
            }
        )+
    };
}

branches! {
    Branches2: (0 A) (1 B);
    Branches3: (0 A) (1 B) (2 C);
    Branches4: (0 A) (1 B) (2 C) (3 D);
    Branches5: (0 A) (1 B) (2 C) (3 D) (4 E);
    Branches6: (0 A) (1 B) (2 C) (3 D) (4 E) (5 F);
    Branches7: (0 A) (1 B) (2 C) (3 D) (4 E) (5 F) (6 G);
    Branches8: (0 A) (1 B) (2 C) (3 D) (4 E) (5 F) (6 G) (7 H);
}
