//! Versions of authentik, and everything in which they differ, in one place.
//!
//! Cut-offs are not monotonic over patch releases and upgrades roll, so wherever a reply itself tells, the reply is
//! believed and nothing here is asked. For a version that cannot be read, writes follow the newest behaviour and
//! deletes the most careful.

use std::fmt;

/// A version as the server reports it, such as `2025.6.4` or `2026.5.0-rc1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVersion {
    text: String,
    release: Option<(u32, u32)>,
}

impl ServerVersion {
    /// Reads a version; any text is one, though perhaps one of which nothing is known.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.trim().split('.').map(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        });
        let release = match (parts.next().flatten(), parts.next().flatten()) {
            (Some(year), Some(month)) if (2019..=2999).contains(&year) && (1..=12).contains(&month) => {
                Some((year, month))
            }
            _ => None,
        };
        Self {
            text: text.trim().chars().filter(|c| !c.is_control()).take(64).collect(),
            release,
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a server of some version does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts, none of which is a state
pub struct Features {
    /// `friendly_name` is cleared with `null` (up to 2025.8), not with `""`.
    pub clears_friendly_name_with_null: bool,
    /// Longest slug of a flow: 50 before 2025.12.
    pub flow_slug_max: Option<usize>,
    /// Deleting a stage deletes the users' devices (up to 2026.5); later the server refuses.
    pub deletes_devices_with_stage: bool,
    /// Only superusers may list devices (up to 2024.12, where it is not known which release changed it).
    pub device_list_needs_superuser: bool,
    /// Twilio's message comes from the mapping (from 2025.8); before, the mapping is ignored.
    pub twilio_uses_mapping: bool,
}

impl Features {
    /// Of a version, or of one that nobody knows.
    #[must_use]
    pub fn of(version: Option<&ServerVersion>) -> Self {
        match version.and_then(|version| version.release) {
            Some(release) => Self {
                clears_friendly_name_with_null: release < (2025, 10),
                flow_slug_max: (release < (2025, 12)).then_some(50),
                deletes_devices_with_stage: release < (2026, 8),
                device_list_needs_superuser: release < (2025, 2),
                twilio_uses_mapping: release >= (2025, 8),
            },
            None => Self {
                clears_friendly_name_with_null: false,
                flow_slug_max: None,
                deletes_devices_with_stage: true,
                device_list_needs_superuser: false,
                twilio_uses_mapping: true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers_not_as_text() {
        let features = |text| Features::of(Some(&ServerVersion::parse(text)));
        assert!(features("2025.8.6").clears_friendly_name_with_null);
        assert!(
            !features("2025.10.0-rc1").clears_friendly_name_with_null,
            "10 is more than 8"
        );
        assert_eq!(features("2025.10.4").flow_slug_max, Some(50));
        assert_eq!(features("2025.12.0").flow_slug_max, None);
        assert!(features("2026.5.7").deletes_devices_with_stage);
        assert!(!features("2026.8.0").deletes_devices_with_stage);
        assert!(features("2024.8.1").device_list_needs_superuser);
    }

    #[test]
    fn of_an_unknown_version_writes_are_new_and_deletes_careful() {
        for version in [
            None,
            Some(ServerVersion::parse("nightly")),
            Some(ServerVersion::parse("7.1")),
        ] {
            let features = Features::of(version.as_ref());
            assert!(!features.clears_friendly_name_with_null);
            assert!(features.deletes_devices_with_stage);
        }
    }
}
