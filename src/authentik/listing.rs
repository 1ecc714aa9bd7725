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
        |_, page| {
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

/// Reads pages until the last one, or until told to stop; from the first one again if the list shrank meanwhile, which
/// `each` sees by the number of the page.
pub(super) async fn walk<T, F>(
    mut read: impl FnMut(u32) -> F,
    mut each: impl FnMut(u32, Page<T>) -> Result<ControlFlow<()>, Error>,
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
        if each(number, page)?.is_break() {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::authentik::scripted::{Reply, Scripted, json_answer, page};

    fn rows(pks: impl IntoIterator<Item = u128>) -> Vec<Value> {
        pks.into_iter()
            .map(|pk| json!({"pk": Uuid::from_u128(pk), "name": format!("s{pk}")}))
            .collect()
    }

    fn invalid_page() -> Reply {
        json_answer(404, &json!({"detail": "Invalid page."}))
    }

    /// Reads the list from a server that answers the n-th call so.
    async fn list(mut script: impl FnMut(usize) -> Reply + Send + 'static) -> (Result<Listing, Error>, Vec<u128>) {
        let mut call = 0;
        let server = Scripted::start(move |_| {
            call += 1;
            script(call)
        })
        .await;
        let mut passed = Vec::new();
        let result = list_all(&server.client(), 100, |row| passed.push(row.pk.as_u128())).await;
        (result, passed)
    }

    #[tokio::test]
    async fn all_pages_are_read_in_the_servers_size() {
        let server = Scripted::start(|request| match request.line.as_str() {
            "GET /api/v3/stages/authenticator/sms/?ordering=pk&page_size=100" => page(&rows([1, 2]), 2, 3),
            "GET /api/v3/stages/authenticator/sms/?ordering=pk&page=2&page_size=100" => page(&rows([3]), 0, 3),
            other => panic!("{other}"),
        })
        .await;
        let mut passed = Vec::new();
        let listing = list_all(&server.client(), 100, |row| passed.push(row.name))
            .await
            .unwrap();
        assert_eq!(
            listing,
            Listing {
                count: 3,
                pages: 2,
                skipped: 0
            }
        );
        assert_eq!(passed, ["s1", "s2", "s3"]);
    }

    #[tokio::test]
    async fn a_row_that_moves_between_two_pages_is_passed_on_once() {
        let (listing, passed) = list(|call| match call {
            1 => page(&rows([1, 2]), 2, 4),
            _ => page(&rows([2, 3]), 0, 4),
        })
        .await;
        assert_eq!(listing.unwrap().count, 3);
        assert_eq!(passed, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_list_that_becomes_shorter_is_read_again() {
        let (listing, passed) = list(|call| match call {
            1 => page(&rows([1, 2]), 2, 3),
            2 => invalid_page(),
            _ => page(&rows([1, 2, 4]), 0, 3),
        })
        .await;
        assert_eq!(
            listing.unwrap(),
            Listing {
                count: 3,
                pages: 2,
                skipped: 0
            }
        );
        assert_eq!(passed, [1, 2, 4]);
    }

    #[tokio::test]
    async fn a_list_that_always_becomes_shorter_is_given_up() {
        let (listing, _) = list(|call| {
            if call % 2 == 1 {
                page(&rows([1]), 2, 2)
            } else {
                invalid_page()
            }
        })
        .await;
        assert!(matches!(listing, Err(Error::InvalidResponse { .. })), "{listing:?}");
    }

    #[tokio::test]
    async fn a_list_without_an_end_is_given_up() {
        let next = |call: usize| u32::try_from(call + 1).unwrap();
        let (fresh, passed) = list(move |call| page(&rows([call as u128]), next(call), 5)).await;
        assert!(matches!(fresh, Err(Error::InvalidResponse { .. })), "{fresh:?}");
        assert_eq!(passed.len(), 18, "twice what the server announced, and a few");
        let (circle, _) = list(|_| page(&rows([1]), 1, 5)).await;
        assert!(matches!(circle, Err(Error::InvalidResponse { .. })), "{circle:?}");
    }

    #[tokio::test]
    async fn odd_rows_are_counted() {
        let (listing, passed) = list(|_| page(&[rows([1]), vec![json!({"name": "x"})]].concat(), 0, 2)).await;
        assert_eq!(
            listing.unwrap(),
            Listing {
                count: 1,
                pages: 1,
                skipped: 1
            }
        );
        assert_eq!(passed, [1]);
    }

    #[tokio::test]
    async fn a_missing_right_is_no_empty_list() {
        let (listing, _) = list(|_| json_answer(403, &json!({"detail": "no"}))).await;
        assert!(matches!(listing, Err(Error::Forbidden { .. })), "{listing:?}");
    }
}
