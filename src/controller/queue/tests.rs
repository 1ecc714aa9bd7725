use std::collections::HashSet;

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;

use crate::clock::ManualClock;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    clock: ManualClock,
    queue: Queue<u32, &'static str>,
}

/// A queue in which a group runs at most three passes at once.
fn world() -> World {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    World {
        queue: Queue::new(Arc::new(clock.clone()), 3),
        clock,
    }
}

impl World {
    fn add(&self, key: u32, group: &'static str, lane: Lane) {
        self.queue.add(key, group, lane, self.clock.now());
    }

    fn add_in(&self, key: u32, group: &'static str, lane: Lane, delay: Duration) {
        self.queue.add(key, group, lane, self.clock.now() + delay);
    }

    /// The next pass, if one can run at this moment.
    fn take(&self) -> Option<(u32, Ticket)> {
        self.queue.next().now_or_never().flatten()
    }

    /// Runs every pass that can run at this moment, one after the other, and tells their keys.
    fn drain(&self) -> Vec<u32> {
        std::iter::from_fn(|| {
            let (key, ticket) = self.take()?;
            self.queue.done(ticket, None);
            Some(key)
        })
        .collect()
    }
}

#[test]
fn objects_run_in_the_order_in_which_they_are_due() {
    let world = world();
    world.add_in(3, "a", Lane::Rest, 3 * SECOND);
    world.add_in(1, "a", Lane::Rest, SECOND);
    world.add_in(2, "a", Lane::Rest, SECOND);
    assert_eq!(world.drain(), [] as [u32; 0], "nothing is due yet");
    world.clock.advance(3 * SECOND);
    assert_eq!(world.drain(), [1, 2, 3]);
}

#[test]
fn what_a_user_changed_overtakes_a_thousand_others() {
    let world = world();
    for key in 0..1000 {
        world.add(key, "a", Lane::Rest);
    }
    world.add(1000, "a", Lane::User);
    world.add(500, "a", Lane::User);
    let order = world.drain();
    assert_eq!(order[..3], [1000, 500, 0], "users go first, in their order");
    assert_eq!(order.len(), 1001, "an object that moved up runs once");
}

#[test]
fn an_object_that_waits_for_its_retry_runs_at_once_when_a_user_changes_it() {
    let world = world();
    world.add_in(1, "a", Lane::Rest, 300 * SECOND);
    assert!(world.take().is_none());
    world.add(1, "a", Lane::User);
    let (key, ticket) = world.take().unwrap();
    assert_eq!((key, ticket.lane(), ticket.waited()), (1, Lane::User, Duration::ZERO));
    world.queue.done(ticket, None);
    world.clock.advance(301 * SECOND);
    assert!(world.take().is_none(), "the retry was part of that pass");
}

#[test]
fn the_earlier_time_and_the_more_urgent_lane_win_whatever_comes_first() {
    let world = world();
    world.add_in(1, "a", Lane::User, 5 * SECOND);
    world.add_in(1, "a", Lane::Rest, SECOND);
    world.add_in(1, "a", Lane::Rest, 9 * SECOND);
    world.clock.advance(SECOND);
    let (_, ticket) = world.take().unwrap();
    assert_eq!(ticket.lane(), Lane::User);
}

#[test]
fn triggers_of_a_running_object_are_one_pass_after_it() {
    let world = world();
    world.add(1, "a", Lane::Rest);
    let (_, ticket) = world.take().unwrap();
    world.add(1, "a", Lane::Rest);
    world.add(1, "a", Lane::User);
    world.add(1, "a", Lane::Rest);
    assert!(world.take().is_none(), "never two passes of one object at once");
    world
        .queue
        .done(ticket, Some((Lane::Rest, world.clock.now() + 60 * SECOND)));
    let (_, ticket) = world.take().unwrap();
    assert_eq!(ticket.lane(), Lane::User);
    world.queue.done(ticket, None);
    world.clock.advance(60 * SECOND);
    assert!(world.take().is_none(), "the requeue and the triggers were one pass");
}

#[test]
fn a_requeue_runs_when_its_time_has_come() {
    let world = world();
    world.add(1, "a", Lane::User);
    let (_, ticket) = world.take().unwrap();
    world
        .queue
        .done(ticket, Some((Lane::Rest, world.clock.now() + 2 * SECOND)));
    world.clock.advance(SECOND);
    assert!(world.take().is_none());
    world.clock.advance(4 * SECOND);
    let (_, ticket) = world.take().unwrap();
    assert_eq!((ticket.lane(), ticket.waited()), (Lane::Rest, 3 * SECOND));
}

#[test]
fn a_flooded_or_hanging_group_delays_no_other() {
    let world = world();
    for key in 0..1000 {
        world.add(key, "flooded", Lane::User);
    }
    for key in 2000..2003 {
        world.add(key, "small", Lane::Rest);
    }
    let mut held = Vec::new();
    let mut order = Vec::new();
    while let Some((key, ticket)) = world.take() {
        order.push(key);
        held.push(ticket);
    }
    assert_eq!(
        order,
        [0, 2000, 1, 2001, 2, 2002],
        "groups take turns, and each has three places"
    );
    assert_eq!(world.queue.in_flight(), 6);
    world.add(3000, "late", Lane::Rest);
    assert_eq!(
        world.take().map(|(key, _)| key),
        Some(3000),
        "passes that hang in other groups do not matter"
    );
}

#[test]
fn a_group_that_comes_last_waits_for_one_pass_of_each_other_group() {
    let world = world();
    for key in 0..50 {
        world.add(key, "a", Lane::Rest);
        world.add(100 + key, "b", Lane::Rest);
    }
    world.add(200, "c", Lane::Rest);
    assert_eq!(world.drain()[..4], [0, 100, 200, 1]);
}

#[test]
fn a_limit_holds_and_can_change_while_objects_wait() {
    let world = world();
    world.queue.limit(&"a", 1);
    for key in 0..5 {
        world.add(key, "a", Lane::Rest);
    }
    let (_, first) = world.take().unwrap();
    assert!(world.take().is_none());
    world.queue.limit(&"a", 2);
    let (_, second) = world.take().unwrap();
    assert!(world.take().is_none());
    world.queue.limit(&"a", 0);
    world.queue.done(first, None);
    world.queue.done(second, None);
    assert!(world.take().is_none());
    world.queue.forget_group(&"a");
    assert_eq!(world.drain(), [2, 3, 4], "the default applies again");
}

#[test]
fn a_paused_group_still_runs_what_users_change() {
    let world = world();
    world.queue.pause(&"a");
    world.add(1, "a", Lane::Rest);
    world.add(2, "a", Lane::User);
    world.add(3, "b", Lane::Rest);
    assert_eq!(world.drain(), [2, 3]);
    assert_eq!((world.queue.len(Lane::Rest), world.queue.depth()), (1, 1));
}

#[test]
fn a_resumed_group_goes_on_at_the_given_rate_until_it_has_caught_up() {
    let world = world();
    world.queue.pause(&"a");
    for key in 0..10 {
        world.add(key, "a", Lane::Rest);
    }
    world.queue.resume(&"a", 2);
    assert_eq!(world.drain(), [0]);
    world.add(100, "a", Lane::User);
    assert_eq!(world.drain(), [100], "users are not bound by the rate");
    for key in 1..10 {
        world.clock.advance(SECOND / 4);
        assert_eq!(world.drain(), [] as [u32; 0], "half of the gap has passed");
        world.clock.advance(SECOND / 4);
        assert_eq!(world.drain(), [key]);
    }
    world.add(20, "a", Lane::Rest);
    assert_eq!(
        world.drain(),
        [] as [u32; 0],
        "what comes right after the backlog is bound as well"
    );
    world.clock.advance(3 * SECOND);
    assert_eq!(world.drain(), [20]);
    world.clock.advance(2 * SECOND);
    for key in 30..40 {
        world.add(key, "a", Lane::Rest);
    }
    assert_eq!(world.drain().len(), 10, "after a quiet second the lane is free");
}

#[test]
fn the_rate_also_binds_what_is_added_after_the_resume() {
    let world = world();
    world.queue.pause(&"a");
    world.queue.resume(&"a", 1);
    for key in 0..5 {
        world.add(key, "a", Lane::Rest);
        assert_eq!(world.drain().len(), usize::from(key == 0));
    }
}

#[test]
fn resuming_what_is_not_paused_changes_nothing() {
    let world = world();
    world.queue.resume(&"a", 1);
    for key in 0..5 {
        world.add(key, "a", Lane::Rest);
    }
    world.queue.resume(&"a", 1);
    assert_eq!(world.drain().len(), 5);
}

#[test]
fn a_forgotten_object_runs_no_more() {
    let world = world();
    world.add(1, "a", Lane::Rest);
    world.queue.forget(&1);
    assert!(world.take().is_none());
    assert!(world.queue.is_empty());

    world.add(2, "a", Lane::Rest);
    let (_, ticket) = world.take().unwrap();
    world.add(2, "a", Lane::User);
    world.queue.forget(&2);
    world.queue.done(ticket, Some((Lane::Rest, world.clock.now())));
    assert!(world.take().is_none(), "neither the trigger nor the requeue counts");

    world.add(3, "a", Lane::Rest);
    let (_, ticket) = world.take().unwrap();
    world.queue.forget(&3);
    world.add(3, "a", Lane::User);
    world.queue.done(ticket, None);
    assert_eq!(world.drain(), [3], "an object of that name came again");
}

#[test]
fn an_object_that_changes_its_group_moves_there() {
    let world = world();
    world.queue.limit(&"a", 0);
    world.add(1, "a", Lane::Rest);
    world.add(1, "b", Lane::Rest);
    let (_, ticket) = world.take().unwrap();
    world.add(1, "a", Lane::User);
    world.queue.done(ticket, Some((Lane::Rest, world.clock.now())));
    assert!(world.take().is_none(), "it belongs to the group with no place now");
    assert_eq!(world.queue.len(Lane::User), 1);
}

#[test]
fn a_ticket_that_is_lost_frees_its_object_and_its_place() {
    let world = world();
    world.queue.limit(&"a", 1);
    world.add(1, "a", Lane::Rest);
    world.add(2, "a", Lane::Rest);
    drop(world.take().unwrap());
    world.add(1, "a", Lane::Rest);
    assert_eq!(world.drain(), [2, 1]);
}

#[tokio::test]
async fn a_worker_sleeps_until_the_first_object_is_due() {
    let World { clock, queue } = world();
    let start = clock.now();
    queue.add(1, "a", Lane::Rest, start + 60 * SECOND);
    let worker = tokio::spawn({
        let queue = queue.clone();
        async move { queue.next().await.map(|(key, ticket)| (key, ticket.started())) }
    });
    tokio::task::yield_now().await;
    queue.add(2, "a", Lane::Rest, start + 30 * SECOND);
    tokio::task::yield_now().await;
    clock.advance(30 * SECOND);
    assert_eq!(worker.await.unwrap(), Some((2, start + 30 * SECOND)));
}

#[tokio::test]
async fn no_wake_up_is_lost_when_a_waiting_worker_is_dropped() {
    let World { clock, queue } = world();
    let mut dropped = Box::pin(queue.next());
    let mut stays = Box::pin(queue.next());
    assert!((&mut dropped).now_or_never().is_none());
    assert!((&mut stays).now_or_never().is_none());
    queue.add(1, "a", Lane::Rest, clock.now() + SECOND);
    assert!((&mut dropped).now_or_never().is_none(), "it sleeps now");
    drop(dropped);
    clock.advance(SECOND);
    assert_eq!(stays.await.map(|(key, _)| key), Some(1));
}

#[tokio::test]
async fn a_closed_queue_ends_its_workers_and_is_idle_when_the_last_pass_has_ended() {
    let World { clock, queue } = world();
    queue.add(1, "a", Lane::Rest, clock.now());
    queue.add(2, "a", Lane::Rest, clock.now() + SECOND);
    let (_, ticket) = queue.next().await.unwrap();
    let mut waits = Box::pin(queue.next());
    assert!((&mut waits).now_or_never().is_none());
    let mut idle = Box::pin(queue.idle());
    assert!((&mut idle).now_or_never().is_none(), "a pass runs");
    queue.close();
    assert!(waits.await.is_none());
    queue.add(3, "a", Lane::User, clock.now());
    assert!(queue.next().await.is_none());
    assert!(queue.is_empty());
    assert!((&mut idle).now_or_never().is_none(), "closing does not end a pass");
    queue.done(ticket, Some((Lane::User, clock.now())));
    idle.await;
    assert!(queue.next().await.is_none());
    assert!(queue.is_empty());
}

#[test]
fn stats_tell_what_waits_and_how_old_the_passes_are() {
    let world = world();
    world.add(1, "a", Lane::Rest);
    world.add(2, "b", Lane::Rest);
    let (_, first) = world.take().unwrap();
    world.clock.advance(2 * SECOND);
    let (_, second) = world.take().unwrap();
    world.clock.advance(SECOND);
    world.add(3, "a", Lane::User);
    world.add_in(4, "a", Lane::Rest, SECOND);
    let expected = Stats {
        due: 1,
        user: 1,
        rest: 1,
        running: 2,
        longest_running: 3 * SECOND,
        unfinished: 4 * SECOND,
    };
    assert_eq!(world.queue.stats(), expected);
    world.queue.done(first, None);
    assert_eq!(world.queue.stats().longest_running, SECOND);
    world.queue.done(second, None);
    assert_eq!(world.queue.stats().unfinished, Duration::ZERO);
}

/// Ten thousand objects under sixteen workers on real threads: each object runs, none twice at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_workers_run_ten_thousand_objects_once_each() {
    const GROUPS: [&str; 4] = ["a", "b", "c", "d"];
    let queue = Queue::new(Arc::new(crate::clock::SystemClock), 8);
    let running = Arc::new(Mutex::new(HashSet::new()));
    let workers: Vec<_> = (0..16)
        .map(|_| {
            let (queue, running) = (queue.clone(), Arc::clone(&running));
            tokio::spawn(async move {
                let mut passes = 0;
                while let Some((key, ticket)) = queue.next().await {
                    assert!(running.lock().unwrap().insert(key), "{key} runs twice at once");
                    tokio::task::yield_now().await;
                    assert!(running.lock().unwrap().remove(&key));
                    passes += 1;
                    queue.done(ticket, None);
                    if queue.is_empty() && queue.in_flight() == 0 {
                        queue.close();
                    }
                }
                passes
            })
        })
        .collect();
    // One object holds the queue open until all the others are in it.
    queue.add(u32::MAX, "a", Lane::Rest, Instant::now() + Duration::from_millis(300));
    for key in 0..10_000 {
        queue.add(key, GROUPS[key as usize % 4], Lane::Rest, Instant::now());
    }
    let mut passes = 0;
    for worker in workers {
        passes += worker.await.unwrap();
    }
    assert_eq!(passes, 10_001);
}
