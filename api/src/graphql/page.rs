//! Relay connections over lists in memory.
use async_graphql::{InputObject, SimpleObject};
use data_encoding::BASE64URL_NOPAD;

use super::error::Fault;

/// How many a page holds when nothing is said.
pub const DEFAULT_PAGE: i32 = 50;
/// The most that a page holds.
pub const MAX_PAGE: i32 = 500;

/// Which part of a list: forward with `first` and `after`, or backward with `last` and `before`.
#[derive(Clone, Debug, InputObject)]
pub struct ConnectionInput {
    /// How many, from the front; at most 500.
    #[graphql(default_with = "Some(DEFAULT_PAGE)")]
    pub first: Option<i32>,
    /// Behind this cursor.
    pub after: Option<String>,
    /// How many, from the back; at most 500.
    pub last: Option<i32>,
    /// Before this cursor.
    pub before: Option<String>,
}

/// What lies beside a page.
#[derive(Clone, Debug, SimpleObject)]
pub struct PageInfo {
    /// Of the first edge.
    pub start_cursor: Option<String>,
    /// Of the last edge.
    pub end_cursor: Option<String>,
    /// Whether more follow.
    pub has_next_page: bool,
    /// Whether some came before.
    pub has_previous_page: bool,
}

/// A place in a list, which stays valid when others come or go: the sort key of an item.
pub type Cursor = (u64, String);

pub(crate) fn write_cursor((at, id): &Cursor) -> String {
    BASE64URL_NOPAD.encode(format!("{at}|{id}").as_bytes())
}

pub(crate) fn read_cursor(field: &str, text: &str) -> Result<Cursor, Fault> {
    let read = || {
        let text = String::from_utf8(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()?;
        let (at, id) = text.split_once('|')?;
        Some((at.parse().ok()?, id.to_owned()))
    };
    read().ok_or_else(|| {
        let message = "this is no cursor of a list: use one that an earlier page gave";
        Fault::validation(field, "cursor", message)
    })
}

/// A page: items with their cursors, and what lies beside it.
pub struct Page<T> {
    /// In the list's order.
    pub edges: Vec<(String, T)>,
    /// What lies beside it.
    pub info: PageInfo,
    /// How many the whole list has.
    pub total: i32,
}

fn size(field: &str, n: i32) -> Result<usize, Fault> {
    usize::try_from(n)
        .ok()
        .filter(|_| n <= MAX_PAGE)
        .ok_or_else(|| {
            Fault::validation(
                field,
                "0 to 500",
                format!("{field} is {n}: give 0 to {MAX_PAGE}"),
            )
        })
}

/// Cuts a page out of `items`, which are in ascending order of `cursor`.
///
/// # Errors
/// A [`Fault::Validation`] for a size out of range or a text that is no cursor.
pub fn cut<T>(
    items: Vec<T>,
    page: Option<&ConnectionInput>,
    cursor: impl Fn(&T) -> Cursor,
) -> Result<Page<T>, Fault> {
    let total = items.len();
    let after = page.and_then(|p| p.after.as_deref());
    let before = page.and_then(|p| p.before.as_deref());
    let after = after.map(|c| read_cursor("page.after", c)).transpose()?;
    let before = before.map(|c| read_cursor("page.before", c)).transpose()?;
    let mut start = after.map_or(0, |c| items.partition_point(|i| cursor(i) <= c));
    let mut end = before.map_or(total, |c| items.partition_point(|i| cursor(i) < c));
    end = end.max(start);
    if let Some(last) = page.and_then(|p| p.last) {
        start = start.max(end.saturating_sub(size("page.last", last)?));
    } else {
        let first = page.and_then(|p| p.first).unwrap_or(DEFAULT_PAGE);
        end = end.min(start.saturating_add(size("page.first", first)?));
    }
    let edges: Vec<_> = items
        .into_iter()
        .skip(start)
        .take(end - start)
        .map(|i| (write_cursor(&cursor(&i)), i))
        .collect();
    Ok(Page {
        info: PageInfo {
            start_cursor: edges.first().map(|(c, _)| c.clone()),
            end_cursor: edges.last().map(|(c, _)| c.clone()),
            has_next_page: end < total,
            has_previous_page: start > 0,
        },
        edges,
        total: i32::try_from(total).unwrap_or(i32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(first: Option<i32>, after: Option<&str>) -> ConnectionInput {
        ConnectionInput {
            first,
            after: after.map(str::to_owned),
            last: None,
            before: None,
        }
    }

    fn numbers(page: &Page<u64>) -> Vec<u64> {
        page.edges.iter().map(|(_, n)| *n).collect()
    }

    #[test]
    fn pages_follow_each_other_without_a_gap_even_when_an_item_goes() {
        let cursor = |n: &u64| (*n, String::new());
        let one = cut((0..10).collect(), Some(&ask(Some(4), None)), cursor).unwrap();
        assert_eq!(numbers(&one), [0, 1, 2, 3]);
        assert!(one.info.has_next_page && !one.info.has_previous_page && one.total == 10);
        let rest: Vec<u64> = (0..10).filter(|n| *n != 3).collect();
        let end = one.info.end_cursor.unwrap();
        let two = cut(rest.clone(), Some(&ask(Some(4), Some(&end))), cursor).unwrap();
        assert_eq!(numbers(&two), [4, 5, 6, 7]);
        let back = ConnectionInput {
            first: Some(50),
            after: None,
            last: Some(2),
            before: two.info.start_cursor,
        };
        assert_eq!(numbers(&cut(rest, Some(&back), cursor).unwrap()), [1, 2]);
    }

    #[test]
    fn a_size_out_of_range_and_a_made_up_cursor_are_refused() {
        let cursor = |n: &u64| (*n, String::new());
        for page in [
            ask(Some(-1), None),
            ask(Some(501), None),
            ask(None, Some("nonsense")),
        ] {
            assert!(cut(vec![1], Some(&page), cursor).is_err(), "{page:?}");
        }
    }
}
