//! What is decided, for any pair of desired and observed.

use proptest::prelude::*;

use super::*;
use crate::api::AuthType;

/// A goal whose fields are drawn from few values, so that equal ones are as likely as different ones.
fn goals() -> impl Strategy<Value = Goal> {
    let word = prop::sample::select(vec!["", "a", "b"]);
    let reference = prop::sample::select(vec![
        Ok(None),
        Ok(Some(Uuid::from_u128(1))),
        Ok(Some(Uuid::from_u128(2))),
        Err(()),
    ]);
    (
        prop::sample::select(vec!["sms", "other"]),
        word.clone(),
        reference.clone(),
        prop::sample::select(vec!["+1", "+2"]),
        any::<bool>(),
        reference,
        prop::option::of(credentials()),
    )
        .prop_map(
            |(name, friendly_name, flow, from_number, verify_only, mapping, credentials)| Goal {
                name: name.to_owned(),
                friendly_name: friendly_name.to_owned(),
                configure_flow: flow.map_err(|()| Failure::new(Reason::FlowNotFound, "no flow")),
                from_number: from_number.to_owned(),
                verify_only,
                credentials: credentials.ok_or_else(|| Failure::new(Reason::SecretNotFound, "no secret")),
                mapping: mapping.map_err(|()| Failure::new(Reason::MappingNotFound, "no mapping")),
            },
        )
}

fn credentials() -> impl Strategy<Value = Credentials> {
    let secret = prop::sample::select(vec!["one", "two"]);
    (any::<bool>(), secret.clone(), any::<bool>(), secret.clone(), secret).prop_map(
        |(twilio, account, bearer, auth, password)| Credentials {
            provider: if twilio { Provider::Twilio } else { Provider::Generic },
            account_sid: SecretString::from(account),
            account_in_clear: None,
            auth_type: if bearer && !twilio {
                AuthType::Bearer
            } else {
                AuthType::Basic
            },
            auth: SecretString::from(auth),
            auth_password: SecretString::from(if bearer || twilio { "" } else { password }),
            markers: Vec::new(),
        },
    )
}

/// A stage that holds what a goal asks, and nothing where a reference does not resolve.
fn row(goal: &Goal, tells_credentials: bool) -> StageRow {
    let credentials = goal.credentials.clone().unwrap_or_else(|_| Credentials {
        provider: Provider::Twilio,
        account_sid: SecretString::from("old"),
        account_in_clear: None,
        auth_type: AuthType::Basic,
        auth: SecretString::from("old"),
        auth_password: SecretString::from(""),
        markers: Vec::new(),
    });
    StageRow {
        pk: Uuid::from_u128(7),
        name: goal.name.clone(),
        component: String::new(),
        verbose_name: String::new(),
        verbose_name_plural: String::new(),
        meta_model_name: String::new(),
        friendly_name: goal.friendly_name.clone(),
        configure_flow: goal.configure_flow.clone().unwrap_or_default(),
        provider: credentials.provider.as_str().to_owned(),
        from_number: goal.from_number.clone(),
        account_sid: credentials.account_sid,
        auth: tells_credentials.then_some(credentials.auth),
        auth_password: tells_credentials.then_some(credentials.auth_password),
        auth_type: credentials.auth_type.as_str().to_owned(),
        verify_only: goal.verify_only,
        mapping: goal.mapping.clone().unwrap_or_default(),
        flow_set: Vec::new(),
    }
}

/// What authentik does with a change.
fn changed(mut row: StageRow, changes: &StageChanges) -> StageRow {
    let StageChanges {
        name,
        friendly_name,
        configure_flow,
        from_number,
        verify_only,
        provider,
        account_sid,
        auth_type,
        auth,
        auth_password,
        mapping,
    } = changes.clone();
    let set = |into: &mut String, value: Option<String>| {
        if let Some(value) = value {
            *into = value;
        }
    };
    set(&mut row.name, name);
    set(&mut row.friendly_name, friendly_name);
    set(&mut row.from_number, from_number);
    set(&mut row.provider, provider);
    set(&mut row.auth_type, auth_type);
    row.configure_flow = configure_flow.unwrap_or(row.configure_flow);
    row.mapping = mapping.unwrap_or(row.mapping);
    row.verify_only = verify_only.unwrap_or(row.verify_only);
    row.account_sid = account_sid.unwrap_or(row.account_sid);
    if row.auth.is_some() {
        row.auth = auth.or(row.auth);
        row.auth_password = auth_password.or(row.auth_password);
    }
    row
}

fn policies() -> impl Strategy<Value = Policy> {
    (
        prop::sample::select(vec![
            AdoptionPolicy::Never,
            AdoptionPolicy::IfMatch,
            AdoptionPolicy::Always,
        ]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(adoption, full, credentials_stale)| Policy {
            adoption,
            management: if full {
                ManagementPolicy::Full
            } else {
                ManagementPolicy::Observe
            },
            credentials_stale,
        })
}

fn settled(policy: Policy) -> Policy {
    Policy {
        credentials_stale: false,
        ..policy
    }
}

proptest! {
    #[test]
    fn applying_a_plan_and_planning_again_leaves_nothing_to_do(
        goal in goals(), held in goals(), tells in any::<bool>(), policy in policies(),
    ) {
        let before = row(&held, tells);
        let planned = plan(&goal, &Observed::Owned(before.clone()), policy);
        let after = match &planned.action {
            Action::Update(_, update) => changed(before, &update.changes),
            Action::Nothing => before,
            Action::Create | Action::Adopt(_) | Action::Refuse(_) => panic!("a stage that is ours is only updated"),
        };
        if policy.management == ManagementPolicy::Full {
            let again = plan(&goal, &Observed::Owned(after), settled(policy));
            prop_assert!(matches!(again.action, Action::Nothing), "{:?}", again.action);
            prop_assert!(again.drift.is_empty(), "{:?}", again.drift);
        } else {
            prop_assert!(matches!(planned.action, Action::Nothing), "Observe never writes");
        }
    }

    #[test]
    fn the_credential_group_is_sent_whole_or_only_its_secrets(goal in goals(), held in goals(), tells in any::<bool>()) {
        let policy = Policy { adoption: AdoptionPolicy::IfMatch, management: ManagementPolicy::Full, credentials_stale: false };
        let planned = plan(&goal, &Observed::Owned(row(&held, tells)), policy);
        if let Action::Update(_, Update { changes, .. }) = planned.action {
            let readable = [changes.provider.is_some(), changes.account_sid.is_some(), changes.auth_type.is_some()];
            prop_assert!(readable.iter().all(|sent| *sent == readable[0]), "{:?}", changes.fields());
            if readable[0] {
                prop_assert!(changes.auth.is_some() && changes.auth_password.is_some());
            }
            if !tells {
                prop_assert!(changes.auth.is_some() == goal.credentials.is_ok(), "whoever changed what shows may have changed what does not");
            }
        }
    }

    #[test]
    fn nothing_is_created_or_adopted_while_a_reference_does_not_resolve(goal in goals(), held in goals(), policy in policies()) {
        for observed in [Observed::Vacant, Observed::Gone, Observed::Unowned(row(&held, true))] {
            let planned = plan(&goal, &observed, policy);
            let makes = matches!(planned.action, Action::Create | Action::Adopt(_));
            prop_assert!(!makes || goal.unresolved().is_none());
            prop_assert!(!makes || policy.management == ManagementPolicy::Full);
        }
    }

    #[test]
    fn a_credential_is_never_shown(goal in goals(), held in goals(), policy in policies()) {
        for observed in [Observed::Owned(row(&held, true)), Observed::Unowned(row(&held, true))] {
            for drift in plan(&goal, &observed, policy).drift {
                if matches!(drift.field.as_str(), "auth" | "auth_password" | "account_sid") {
                    for shown in [drift.desired, drift.observed].into_iter().flatten() {
                        prop_assert_eq!(shown, SENSITIVE);
                    }
                }
            }
        }
    }
}

#[test]
fn a_stage_that_may_not_be_adopted_shows_fields_and_no_values() {
    let desired = Goal {
        name: "sms".into(),
        friendly_name: "ours".into(),
        configure_flow: Ok(None),
        from_number: "+1".into(),
        verify_only: false,
        credentials: Ok(Credentials {
            provider: Provider::Twilio,
            account_sid: SecretString::from("AC0"),
            account_in_clear: Some("AC0".into()),
            auth_type: AuthType::Basic,
            auth: SecretString::from("t"),
            auth_password: SecretString::from(""),
            markers: Vec::new(),
        }),
        mapping: Ok(None),
    };
    let mut theirs = row(&desired, true);
    theirs.friendly_name = "theirs".into();
    theirs.auth_type = "bearer".into();
    let policy = |adoption| Policy {
        adoption,
        management: ManagementPolicy::Full,
        credentials_stale: false,
    };
    let refused = plan(
        &desired,
        &Observed::Unowned(theirs.clone()),
        policy(AdoptionPolicy::IfMatch),
    );
    assert!(matches!(&refused.action, Action::Refuse(failure) if failure.reason == Reason::NameConflict));
    assert!(
        refused
            .drift
            .iter()
            .all(|drift| drift.desired.is_none() && drift.observed.is_none())
    );
    assert!(refused.drift.iter().any(|drift| drift.field == "friendly_name"));

    theirs.friendly_name = "ours".into();
    let matching = plan(&desired, &Observed::Unowned(theirs), policy(AdoptionPolicy::IfMatch));
    assert!(
        matches!(matching.action, Action::Adopt(_)),
        "Twilio makes no use of auth_type: {:?}",
        matching.action
    );
}
