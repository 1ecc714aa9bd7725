//! Reads fields as they come: a field that is missing, null or of another type takes its default instead of making
//! the whole answer unreadable.
//!
//! Newer versions add enum values, drop fields and widen types, and a stage must stay readable through that.

use std::borrow::Cow;
use std::fmt;

use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;
use uuid::Uuid;

/// Any JSON value, of which only scalars are kept.
enum Scalar<'de> {
    Text(Cow<'de, str>),
    Number(Number),
    Bool(bool),
    Other,
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(value).map_or(Scalar::Other, Scalar::Number))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

impl Scalar<'_> {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text.into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Other => String::new(),
        }
    }

    fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Text(text) => Uuid::parse_str(text).ok(),
            Self::Number(_) | Self::Bool(_) | Self::Other => None,
        }
    }

    /// A number without a fraction: the schema calls page numbers `number`, so `2.0` is one too.
    fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64().or_else(|| {
                let value = number.as_f64()?;
                #[allow(clippy::cast_possible_truncation)] // bounded by the condition
                (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
            }),
            Self::Text(_) | Self::Bool(_) | Self::Other => None,
        }
    }
}

/// A text; `null` is the empty one.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Scalar::deserialize(deserializer)?.into_text())
}

/// A text without its ASCII capitals, which some versions use in enums.
pub(super) fn lower_case<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(text(deserializer)?.to_ascii_lowercase())
}

/// The path of a URL: what follows may be a signature that is new at every read.
pub(super) fn unsigned_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut url = text(deserializer)?;
    if let Some(end) = url.find(['?', '#']) {
        url.truncate(end);
    }
    Ok(url)
}

/// A credential; `null` is the empty one.
pub(super) fn credential<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Text(Cow::Borrowed(text)) => text.into(),
        other @ (Scalar::Text(Cow::Owned(_)) | Scalar::Number(_) | Scalar::Bool(_) | Scalar::Other) => {
            other.into_text().into()
        }
    })
}

/// A credential of a reply that has the key.
pub(super) fn told_credential<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    credential(deserializer).map(Some)
}

/// A truth value.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(matches!(Scalar::deserialize(deserializer)?, Scalar::Bool(true)))
}

/// An integer; anything else is 0.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(Scalar::deserialize(deserializer)?.as_integer().unwrap_or_default())
}

/// A number of things, or of a page: anything but a positive integer is 0.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(u64::try_from(integer(deserializer)?).unwrap_or_default())
}

/// A uuid, with dashes or without; anything else is none.
pub(super) fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    Ok(Scalar::deserialize(deserializer)?.as_uuid())
}

/// The elements of an array that can be read; none of anything else.
pub(super) fn elements<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let elements: Vec<&'de RawValue> = or_default(deserializer)?;
    Ok(elements
        .into_iter()
        .filter_map(|element| serde_json::from_str(element.get()).ok())
        .collect())
}

/// A value of any type, or its default if something else stands there.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug, Default, PartialEq)]
    #[serde(default)]
    struct Odd {
        #[serde(deserialize_with = "text")]
        text: String,
        #[serde(deserialize_with = "unsigned_url")]
        url: String,
        #[serde(deserialize_with = "flag")]
        flag: bool,
        #[serde(deserialize_with = "count")]
        count: u64,
        #[serde(deserialize_with = "uuid")]
        uuid: Option<Uuid>,
        #[serde(deserialize_with = "elements")]
        ids: Vec<Uuid>,
    }

    #[test]
    fn another_type_is_the_default() {
        for value in ["null", "[]", "{}", "[[{}]]", "1.5e300"] {
            let json = format!(r#"{{"flag":{value},"count":{value},"uuid":{value},"ids":{value}}}"#);
            assert_eq!(serde_json::from_str::<Odd>(&json).unwrap(), Odd::default(), "{json}");
        }
    }

    #[test]
    fn what_can_be_read_is_read() {
        let odd: Odd = serde_json::from_str(
            r#"{"text":17,"url":"/a.png?sig=1#x","flag":true,"count":2.0,
                "uuid":"00000000000000000000000000000001","ids":[7,"00000000-0000-0000-0000-000000000002",null]}"#,
        )
        .unwrap();
        assert_eq!(odd.text, "17");
        assert_eq!(odd.url, "/a.png");
        assert!(odd.flag);
        assert_eq!(odd.count, 2);
        assert_eq!(odd.uuid, Some(Uuid::from_u128(1)));
        assert_eq!(odd.ids, [Uuid::from_u128(2)]);
    }
}
