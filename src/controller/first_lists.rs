//! The first list of each watched namespace: passes wait for all of them, since who has what decides who may have what.
//!
//! A namespace that the operator may not list holds up nobody: passes begin without it, and `/readyz` says that
//! something is missing until it can be listed after all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::health::Ready;

/// The first lists of one kind.
pub(super) struct FirstLists {
    missing: AtomicUsize,
    ready: Ready,
}

/// The first list of one kind in one namespace, or in all.
pub(super) struct FirstList {
    told: Option<oneshot::Sender<()>>,
    of: Option<Arc<FirstLists>>,
}

/// As many first lists as there are namespaces to watch, and what ends when each is there or refused.
pub(super) fn expect(lists: usize, ready: Ready) -> (Vec<FirstList>, Vec<oneshot::Receiver<()>>) {
    let of = Arc::new(FirstLists {
        missing: AtomicUsize::new(lists),
        ready,
    });
    (0..lists)
        .map(|_| {
            let (told, listed) = oneshot::channel();
            (
                FirstList {
                    told: Some(told),
                    of: Some(Arc::clone(&of)),
                },
                listed,
            )
        })
        .unzip()
}

impl FirstList {
    /// It is there. Later lists change nothing.
    pub(super) fn complete(&mut self) {
        self.tell();
        if let Some(of) = self.of.take()
            && of.missing.fetch_sub(1, Ordering::AcqRel) == 1
        {
            of.ready.set();
        }
    }

    /// The API server does not let us have it; true the first time.
    pub(super) fn refused(&mut self) -> bool {
        self.tell()
    }

    fn tell(&mut self) -> bool {
        // Nobody waits any more when the process stops.
        self.told.take().is_some_and(|told| told.send(()).is_ok())
    }
}
