//! Lists: permission, filters, search, ordering and pages, the same for every kind of row.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{message::Reply, routes::Context, rows::Row, state::State};

/// How a query parameter selects rows by the column of its name.
#[derive(Clone, Copy)]
pub(crate) enum Filter {
    /// Equal text.
    Text,
    /// Equal text, one of few.
    Choice(&'static [&'static str]),
    /// `true` or `false`; anything else selects everything.
    Boolean,
    Integer,
    Uuid,
    /// A row of another table, which must exist.
    Reference(fn(&State, Uuid) -> bool),
    /// As `Reference`, for a column that holds many.
    Among(fn(&State, Uuid) -> bool),
    /// A uuid with or without dashes.
    Hex,
}

/// What a list offers. Any parameter that is not named here is ignored, as authentik does.
pub(crate) struct Listing {
    pub(crate) filters: &'static [(&'static str, Filter)],
    pub(crate) search: &'static [&'static str],
    pub(crate) ordering: &'static [&'static str],
}

/// The rows that the caller may view; with no right at all that is a refusal and not an empty list.
fn visible<'r, R: Row + 'r>(context: &Context<'_>, rows: impl Iterator<Item = &'r R>) -> Result<Vec<&'r R>, Reply> {
    if context.user.may("view", R::MODEL) {
        return Ok(rows.collect());
    }
    let seen: Vec<&R> = rows
        .filter(|row| context.user.may_on("view", R::MODEL, &row.key()))
        .collect();
    if seen.is_empty() {
        Err(Reply::forbidden())
    } else {
        Ok(seen)
    }
}

/// The row with that key, if the caller may view it and do `verb` to it.
pub(crate) fn one<'r, R: Row + 'r>(
    context: &Context<'_>,
    rows: impl Iterator<Item = &'r R>,
    verb: &str,
    is_it: impl Fn(&R) -> bool,
) -> Result<&'r R, Reply> {
    let row = visible(context, rows)?
        .into_iter()
        .find(|row| is_it(row))
        .ok_or_else(|| Reply::missing(context.version, R::MODEL.class))?;
    if context.user.may_on(verb, R::MODEL, &row.key()) {
        Ok(row)
    } else {
        Err(Reply::forbidden())
    }
}

/// The row with that uuid, as `one` finds it; what is no uuid is not even looked for.
pub(crate) fn by_uuid<'r, R: Row + 'r>(
    context: &Context<'_>,
    rows: impl Iterator<Item = &'r R>,
    verb: &str,
    uuid: &str,
) -> Result<&'r R, Reply> {
    let Ok(uuid) = Uuid::parse_str(uuid) else {
        visible(context, rows)?;
        return Err(Reply::not_found());
    };
    let key = uuid.to_string();
    one(context, rows, verb, |row| row.key() == key)
}

/// Answers one page of the rows.
pub(crate) fn list<'r, R: Row + 'r>(
    context: &Context<'_>,
    state: &State,
    rows: impl Iterator<Item = &'r R>,
    listing: &Listing,
    render: impl Fn(&R) -> Value,
) -> Result<Reply, Reply> {
    let mut rows = visible(context, rows)?;
    for (name, filter) in listing.filters {
        if let Some(sent) = context
            .request
            .parameter(name)
            .map(str::trim)
            .filter(|sent| !sent.is_empty())
        {
            select(&mut rows, state, name, *filter, sent)?;
        }
    }
    for term in context.request.parameter("search").unwrap_or("").split_whitespace() {
        let term = term.to_lowercase();
        rows.retain(|row| {
            listing
                .search
                .iter()
                .filter_map(|column| row.column(column))
                .any(|value| value.as_str().is_some_and(|text| text.to_lowercase().contains(&term)))
        });
    }
    order(&mut rows, context.request.parameter("ordering"), listing.ordering);
    page(context, &rows, render)
}

fn select<R: Row>(rows: &mut Vec<&R>, state: &State, name: &str, filter: Filter, sent: &str) -> Result<(), Reply> {
    let refuse = |text: String| Reply::json(400, json!({name: [text]}));
    let wanted = match filter {
        Filter::Text => json!(sent),
        Filter::Choice(among) if among.contains(&sent) => json!(sent),
        Filter::Choice(_) => {
            return Err(refuse(format!(
                "Select a valid choice. {sent} is not one of the available choices."
            )));
        }
        Filter::Boolean => match sent.to_ascii_lowercase().as_str() {
            "true" => json!(true),
            "false" => json!(false),
            _ => return Ok(()),
        },
        Filter::Integer => json!(sent.parse::<i64>().map_err(|_| refuse("Enter a number.".to_owned()))?),
        Filter::Uuid => json!(
            Uuid::parse_str(sent)
                .map_err(|_| refuse("Enter a valid UUID.".to_owned()))?
                .to_string()
        ),
        Filter::Reference(exists) => {
            let text = "Select a valid choice. That choice is not one of the available choices.";
            existing(sent, |pk| exists(state, pk), text).map_err(refuse)?
        }
        Filter::Among(exists) => {
            let text = format!("Select a valid choice. {sent} is not one of the available choices.");
            existing(sent, |pk| exists(state, pk), &text).map_err(refuse)?
        }
        Filter::Hex => json!(sent.replace('-', "")),
    };
    rows.retain(|row| match row.column(name) {
        Some(Value::Array(values)) => values.contains(&wanted),
        Some(value) => value == wanted,
        None => false,
    });
    Ok(())
}

/// The key of a row that exists, or what is wrong with it.
fn existing(sent: &str, exists: impl Fn(Uuid) -> bool, missing: &str) -> Result<Value, String> {
    let pk = Uuid::parse_str(sent).map_err(|_| format!("“{sent}” is not a valid UUID."))?;
    if exists(pk) {
        Ok(json!(pk.to_string()))
    } else {
        Err(missing.to_owned())
    }
}

/// Orders by the columns that were asked for, or by the default ones if none of them exists.
fn order<R: Row>(rows: &mut [&R], asked: Option<&str>, default: &[&str]) {
    let Some(sample) = rows.first() else { return };
    let known = |term: &&str| sample.column(term.trim_start_matches('-')).is_some();
    let asked: Vec<&str> = asked.unwrap_or("").split(',').map(str::trim).filter(known).collect();
    let terms = if asked.is_empty() { default.to_vec() } else { asked };
    for term in terms.iter().rev() {
        let column = term.trim_start_matches('-');
        rows.sort_by_cached_key(|row| Sortable::from(row.column(column)));
        if term.starts_with('-') {
            rows.reverse();
        }
    }
}

/// A column's value as the database compares it: by number or by bytes, null last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Sortable {
    Number(i64),
    Text(String),
    Null,
}

impl From<Option<Value>> for Sortable {
    fn from(value: Option<Value>) -> Self {
        match value {
            Some(Value::Number(number)) => Self::Number(number.as_i64().unwrap_or(i64::MAX)),
            Some(Value::Bool(value)) => Self::Number(value.into()),
            Some(Value::String(text)) => Self::Text(text),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => Self::Null,
        }
    }
}

fn page<R: Row>(context: &Context<'_>, rows: &[&R], render: impl Fn(&R) -> Value) -> Result<Reply, Reply> {
    let limits = context.settings;
    let default = limits
        .default_page_size
        .unwrap_or_else(|| context.version.default_page_size());
    let asked = context
        .request
        .parameter("page_size")
        .and_then(|text| text.parse::<usize>().ok());
    let size = asked.filter(|&size| size > 0).unwrap_or(default);
    let size = match limits.maximum_page_size.or_else(|| context.version.maximum_page_size()) {
        Some(maximum) => size.min(maximum),
        None => size,
    };
    let pages = rows.len().div_ceil(size).max(1);
    let current = match context.request.parameter("page") {
        None | Some("") => Some(1),
        Some("last") => Some(pages),
        Some(text) => text.parse::<usize>().ok(),
    };
    let Some(current) = current.filter(|page| (1..=pages).contains(page)) else {
        return Err(Reply::detail(404, "Invalid page."));
    };
    let first = (current - 1) * size;
    let shown = &rows[first..rows.len().min(first + size)];
    let mut body = json!({
        "pagination": {
            "next": if current < pages { current + 1 } else { 0 },
            "previous": current - 1,
            "count": rows.len(),
            "current": current,
            "total_pages": pages,
            "start_index": if rows.is_empty() { 0 } else { first + 1 },
            "end_index": first + shown.len(),
        },
        "results": shown.iter().map(|row| render(row)).collect::<Vec<_>>(),
    });
    if context.version.pages_have_autocomplete() {
        body["autocomplete"] = json!({});
    }
    Ok(Reply::json(200, body))
}
