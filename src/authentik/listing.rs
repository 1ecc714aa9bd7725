//! Reads a list page by page, while others change it, and ends whatever the server does.

use std::collections::HashSet;
use std::ops::ControlFlow;

use uuid::Uuid;

use super::client::Client;
use super::error::Error;
use super::wire::{Page, StageRow};

/// How often a list may shrink under a reader before the reader gives up.
const RESTARTS_MAX: u32 = 3;

/// Most pages of a list, whatever the server says of its length.
const PAGES_MAX: u64 = 2_000;

/// What a complete reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Rows, each counted once.
    pub count: u64,
    /// Pages read.
    pub pages: u32,
    /// Rows that could not be read. They may be any stage, so with one of them absence proves nothing.
    pub skipped: u64,
}

/// Passes every SMS stage on once.
///
/// Pages race with writes: a row that is missing may have moved between two pages.
///
/// # Errors
/// [`Error::InvalidResponse`] for a list that does not end or keeps shrinking, besides those of a call.
pub async fn list_all(client: &Client, page_size: u32, mut keep: impl FnMut(StageRow)) -> Result<Listing, Error> {
    let mut seen: HashSet<Uuid> = HashSet::new();
    let mut listing = Listing {
        count: 0,
        pages: 0,
        skipped: 0,
    };
    walk(
        |page| client.page_of_stages(page, page_size),
        |page| {
            listing.pages += 1;
            listing.skipped += page.skipped;
            page.items
                .into_iter()
                .filter(|row| seen.insert(row.pk))
                .for_each(&mut keep);
            Ok(ControlFlow::Continue(()))
        },
    )
    .await?;
    listing.count = seen.len() as u64;
    Ok(listing)
}

/// Reads pages until the last one, or until told to stop; from the first one again if the list shrank meanwhile.
pub(super) async fn walk<T, F>(
    mut read: impl FnMut(u32) -> F,
    mut each: impl FnMut(Page<T>) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error>
where
    F: Future<Output = Result<Page<T>, Error>>,
{
    let (mut number, mut pages, mut most, mut restarts) = (1, 0, PAGES_MAX, 0);
    loop {
        let page = match read(number).await {
            Ok(page) => page,
            // The first page always exists. Of a later one this says that the list has become shorter.
            Err(Error::NotFound { request_id }) if number > 1 => {
                restarts += 1;
                if restarts > RESTARTS_MAX {
                    let why = "the list became shorter at every reading".to_owned();
                    return Err(Error::InvalidResponse { why, request_id });
                }
                (number, pages) = (1, 0);
                continue;
            }
            Err(error) => return Err(error),
        };
        if number == 1 {
            most = plausible_pages(&page);
        }
        pages += 1;
        let next = page.next;
        if each(page)?.is_break() {
            return Ok(());
        }
        match next {
            None => return Ok(()),
            Some(next) if next > number && pages < most => number = next,
            Some(_) => {
                let why = format!("the list does not end after {pages} pages");
                return Err(Error::InvalidResponse { why, request_id: None });
            }
        }
    }
}

/// Most pages that a list with this first page can have, though it grow to the double while it is read.
fn plausible_pages<T>(first: &Page<T>) -> u64 {
    let rows = (first.items.len() as u64 + first.skipped).max(1);
    (first.count.div_ceil(rows).saturating_mul(2).saturating_add(8)).min(PAGES_MAX)
}
