//! The committed definitions are the generated ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use authentik_stage_operator::commands::crd;

#[test]
fn the_committed_definitions_are_fresh() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for (file, definition) in crd::definitions() {
        let committed = fs::read_to_string(directory.join(file)).unwrap_or_default();
        assert!(
            committed == crd::to_yaml(&definition).unwrap(),
            "crds/{file} is not what the types say: run `make crds` and commit the result"
        );
    }
    let generated: BTreeSet<_> = crd::definitions().iter().map(|(file, _)| (*file).to_owned()).collect();
    let present: BTreeSet<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        present, generated,
        "crds/ holds the generated definitions and nothing else"
    );
}
