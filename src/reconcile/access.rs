//! Who may use a connection, and how far. Pure.

use std::collections::BTreeMap;

use crate::api::{
    AdoptionPolicy, AllowedNamespaces, AuthenticatorSMSStageSpec, DeletionPolicy, ForeignAdoption, LabelSelector,
    ManagementPolicy, NamespacesFrom, Reason, SelectorOperator,
};

use super::{ConnectionKey, Failure};

/// Labels of a namespace, or that they are not known.
pub type NamespaceLabels = Option<BTreeMap<String, String>>;

/// Whether a resource of `namespace` may use a connection at all, and as far as it asks to go.
///
/// # Errors
/// `ConnectionNotAllowed` with what the connection's owner or this resource has to change.
pub fn check(
    allowed: &AllowedNamespaces,
    connection: &ConnectionKey,
    namespace: &str,
    labels: &NamespaceLabels,
    spec: &AuthenticatorSMSStageSpec,
) -> Result<(), Failure> {
    if namespace == connection.namespace {
        return Ok(());
    }
    let denied = |message: String| Err(Failure::new(Reason::ConnectionNotAllowed, message));
    let named = match allowed.from {
        NamespacesFrom::Same => false,
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => match (labels, &allowed.selector) {
            (Some(labels), Some(selector)) => selects(selector, labels),
            (None, _) | (_, None) => false,
        },
    };
    if !named {
        return denied(format!(
            "AuthentikConnection {connection} does not let namespace {namespace} use it: \
             its owner has to allow the namespace in spec.allowedNamespaces"
        ));
    }
    let asked = match (spec.management_policy, spec.adoption_policy) {
        (ManagementPolicy::Observe, AdoptionPolicy::Never) | (_, AdoptionPolicy::IfMatch) => ForeignAdoption::IfMatch,
        (_, AdoptionPolicy::Always) => ForeignAdoption::Always,
        (ManagementPolicy::Full, AdoptionPolicy::Never) => ForeignAdoption::Never,
    };
    if asked > allowed.adoption {
        return denied(format!(
            "AuthentikConnection {connection} lets other namespaces take over or look at existing stages only as far \
             as {:?}: set adoptionPolicy to Never and managementPolicy to Full, or have its owner raise \
             spec.allowedNamespaces.adoption to {asked:?}",
            allowed.adoption
        ));
    }
    if spec.deletion_policy == Some(DeletionPolicy::ForceDelete) && !allowed.force_delete {
        return denied(format!(
            "AuthentikConnection {connection} does not let other namespaces delete users' devices: set \
             deletionPolicy to Delete or Orphan, or have its owner set spec.allowedNamespaces.forceDelete"
        ));
    }
    Ok(())
}

/// Whether labels have what a selector asks, by the rules of Kubernetes.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selector
        .match_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator {
                SelectorOperator::In => listed,
                SelectorOperator::NotIn => !listed,
                SelectorOperator::Exists => value.is_some(),
                SelectorOperator::DoesNotExist => value.is_none(),
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn connection() -> ConnectionKey {
        ConnectionKey {
            namespace: "platform".into(),
            name: "authentik".into(),
        }
    }

    fn spec(extra: &serde_json::Value) -> AuthenticatorSMSStageSpec {
        let mut spec = json!({
            "fromNumber": "+15550100", "provider": "twilio", "adoptionPolicy": "Never",
            "twilio": {"accountSid": "AC0123456789abcdef0123456789abcdef",
                       "authTokenSecretRef": {"name": "twilio", "key": "token"}},
        });
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn allowed(value: serde_json::Value) -> AllowedNamespaces {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_foreign_namespace_goes_only_as_far_as_the_owner_lets_it() {
        let labels = Some(BTreeMap::from([("team".to_owned(), "login".to_owned())]));
        let by_label = json!({"from": "Selector", "selector": {"matchLabels": {"team": "login"}}});
        let by_expression = json!({"from": "Selector", "selector": {"matchExpressions": [
            {"key": "team", "operator": "NotIn", "values": ["shop"]}, {"key": "env", "operator": "DoesNotExist"}]}});
        let cases = [
            (
                json!({}),
                json!({}),
                false,
                "only the connection's own namespace by default",
            ),
            (json!({"from": "All"}), json!({}), true, "all"),
            (by_label, json!({}), true, "matching label"),
            (by_expression, json!({}), true, "matching expressions"),
            (
                json!({"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}),
                json!({}),
                false,
                "other",
            ),
            (
                json!({"from": "All"}),
                json!({"adoptionPolicy": "IfMatch"}),
                false,
                "adoption is Never by default",
            ),
            (
                json!({"from": "All"}),
                json!({"managementPolicy": "Observe"}),
                false,
                "observing is a look at others'",
            ),
            (
                json!({"from": "All", "adoption": "IfMatch"}),
                json!({"adoptionPolicy": "IfMatch"}),
                true,
                "allowed",
            ),
            (
                json!({"from": "All", "adoption": "IfMatch"}),
                json!({"managementPolicy": "Observe"}),
                true,
                "allowed",
            ),
            (
                json!({"from": "All", "adoption": "IfMatch"}),
                json!({"adoptionPolicy": "Always"}),
                false,
                "too much",
            ),
            (
                json!({"from": "All"}),
                json!({"deletionPolicy": "ForceDelete"}),
                false,
                "devices",
            ),
            (
                json!({"from": "All", "forceDelete": true}),
                json!({"deletionPolicy": "ForceDelete"}),
                true,
                "allowed",
            ),
        ];
        for (allow, extra, passes, why) in cases {
            let verdict = check(&allowed(allow), &connection(), "login", &labels, &spec(&extra));
            assert_eq!(verdict.is_ok(), passes, "{why}: {verdict:?}");
        }
    }

    #[test]
    fn the_connections_own_namespace_may_do_everything() {
        let all = spec(&json!({"adoptionPolicy": "Always", "deletionPolicy": "ForceDelete"}));
        assert_eq!(
            check(&AllowedNamespaces::default(), &connection(), "platform", &None, &all),
            Ok(())
        );
    }

    #[test]
    fn a_namespace_whose_labels_nobody_knows_is_selected_by_nothing() {
        let selector = allowed(json!({"from": "Selector", "selector": {}}));
        assert!(check(&selector, &connection(), "login", &None, &spec(&json!({}))).is_err());
    }
}
