//! Context variables. A test whose name begins with a number re-creates that behaviour of CPython's
//! test_asyncio.

mod common;

use common::*;
use coring::{
    ContextVar, create_task, gather, ok, shielded, sleep, task_group, wait_for, yield_now,
};
use std::rc::Rc;

static VAR: ContextVar<u32> = ContextVar::new("var");
static OTHER: ContextVar<Rc<DropGuard>> = ContextVar::new("other");

each_driver! {
    fn b117_child_does_not_leak_its_values_to_its_parent(world) {
        world.run(async {
            VAR.set(1);
            let child = create_task(async {
                assert_eq!(VAR.get(), Some(1));
                VAR.set(2);
                yield_now().await.expect("nobody cancels");
                VAR.get()
            });
            assert_eq!(child.await, Some(2));
            assert_eq!(VAR.get(), Some(1));
        });
    }

    fn b117_child_does_not_see_what_its_parent_sets_later(world) {
        world.run(async {
            VAR.set(1);
            let child = create_task(async { VAR.get() });
            VAR.set(2);
            assert_eq!(child.await, Some(1));
            let grandchild = create_task(async { create_task(async { VAR.get() }).await });
            assert_eq!(grandchild.await, Some(2));
        });
    }

    fn value_lives_in_the_scope_that_it_was_set_in(world) {
        let step = world.short(1);
        world.run(async {
            assert_eq!(VAR.get(), None);
            VAR.set(1);
            let inside = wait_for(
                async {
                    sleep(step / 10).await?;
                    VAR.set(2);
                    shielded(async { ok(VAR.get()) }).await
                },
                LONG,
            );
            assert_eq!(inside.await.expect("in time"), Some(2));
            assert_eq!(VAR.get(), Some(1));
            // Branches have each their own.
            let branch = async |n| {
                VAR.set(n);
                yield_now().await?;
                ok(VAR.get())
            };
            assert_eq!(gather!(branch(5), branch(6)).await.expect("both"), (Some(5), Some(6)));
            assert_eq!(VAR.scope(7, async { VAR.get() }).await, Some(7));
            assert_eq!(VAR.get(), Some(1));
        });
    }

    fn value_set_in_a_branch_that_yields_is_its_own(world) {
        world.run(async {
            VAR.set(1);
            let sets = async {
                for _ in 0..3 {
                    yield_now().await?;
                    assert_eq!(VAR.get(), Some(1));
                }
                VAR.set(2);
                for _ in 0..3 {
                    yield_now().await?;
                    assert_eq!(VAR.get(), Some(2));
                }
                ok(create_task(async { VAR.get() }).await)
            };
            let reads = async {
                for _ in 0..9 {
                    yield_now().await?;
                    assert_eq!(VAR.get(), Some(1));
                }
                ok(VAR.get())
            };
            let limits = async {
                let limited = async {
                    VAR.set(3);
                    yield_now().await?;
                    ok(VAR.get())
                };
                assert_eq!(wait_for(limited, LONG).await?, Some(3));
                ok(VAR.get())
            };
            let all = gather!(sets, reads, limits).await.expect("nobody cancels");
            assert_eq!(all, (Some(2), Some(1), Some(1)));
        });
    }

    fn b065_tasks_of_a_group_begin_with_the_values_of_its_body(world) {
        world.run(async {
            VAR.set(3);
            let seen = task_group(async |g| {
                VAR.set(4);
                let child = g.create_task(async { ok(VAR.get()) });
                child.await
            });
            assert_eq!(seen.await.expect("nobody fails"), Some(4));
        });
    }

    fn value_whose_drop_panics_takes_nobody_along(world) {
        static BOMB: ContextVar<Rc<Bomb>> = ContextVar::new("bomb");
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a bomb");
            }
        }
        world.run(async {
            let task = create_task(async {
                BOMB.set(Rc::new(Bomb));
                yield_now().await
            });
            task.await.expect("nobody cancels");
            let limited = async {
                BOMB.set(Rc::new(Bomb));
                yield_now().await
            };
            wait_for(limited, LONG).await.expect("nobody cancels");
            yield_now().await.expect("the loop goes on");
        });
    }

    fn values_go_with_their_scope(world) {
        let drops = Drops::default();
        world.run(async {
            OTHER.set(Rc::new(drops.guard()));
            let child = create_task(async {
                OTHER.get().expect("inherited");
                yield_now().await
            });
            child.await.expect("nobody cancels");
            OTHER.scope(Rc::new(drops.guard()), yield_now()).await.expect("nobody cancels");
            assert_eq!(drops.count(), 1);
            OTHER.set(Rc::new(drops.guard()));
            assert_eq!(drops.count(), 2);
        });
        assert_eq!(drops.count(), 3);
    }
}

#[test]
fn variable_has_no_value_where_there_is_no_runtime() {
    let _alone = World::sim();
    assert_eq!(VAR.get(), None);
    assert!(std::panic::catch_unwind(|| VAR.set(1)).is_err());
    assert_eq!(
        (VAR.name(), format!("{VAR:?}")),
        ("var", "ContextVar(\"var\")".to_owned())
    );
}
