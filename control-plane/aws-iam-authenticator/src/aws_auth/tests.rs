//! What must hold of `aws_auth`.

use proptest::prelude::*;

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/node";

fn data(key: &str, text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), text.to_owned())])
}

fn identity(arn: &str) -> Identity {
    let account = arn.split(':').nth(4).unwrap_or_default().to_owned();
    Identity { account, canonical_arn: arn.to_owned(), ..Identity::default() }
}

fn user_of(data: &BTreeMap<String, String>, arn: &str) -> Option<(String, Vec<String>)> {
    let (found, _) = AwsAuth::read(data);
    found.find(&identity(arn)).map(|it| (it.username, it.groups))
}

#[test]
fn the_config_map_that_eks_writes_maps_nodes() {
    let text = "- groups:\n  - system:bootstrappers\n  - system:nodes\n  rolearn: \
                arn:aws:iam::111122223333:role/node\n  username: \
                system:node:{{EC2PrivateDNSName}}\n";
    let (found, errors) = AwsAuth::read(&data("mapRoles", text));
    assert_eq!(errors, []);
    let mapping = found.find(&identity(ROLE)).unwrap();
    assert_eq!(mapping.username, "system:node:{{EC2PrivateDNSName}}");
    assert_eq!(mapping.groups, ["system:bootstrappers", "system:nodes"]);
}

#[test]
fn a_bad_entry_is_skipped_and_reported_and_the_others_count() {
    let text = "- rolearn: arn:aws:iam::1:role/a\n  username: a\n- just a text\n- username: \
                nobody\n- rolearn: arn:aws:iam::1:role/b\n- rolearn: arn:aws:iam::1:role/c\n  \
                username: c\n  groups: system:masters\n- rolearn: arn:aws:iam::1:role/d\n  \
                username: d\n  groups: [dev]\n";
    let data = data("mapRoles", text);
    let (_, errors) = AwsAuth::read(&data);
    let indexes = errors.iter().map(|it| match it {
        EntryError::Entry { index, .. } => *index,
        other => panic!("{other}"),
    });
    assert_eq!(indexes.collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(user_of(&data, "arn:aws:iam::1:role/a"), Some(("a".into(), vec![])));
    assert_eq!(user_of(&data, "arn:aws:iam::1:role/d"), Some(("d".into(), vec!["dev".into()])));
    for bad in ["b", "c"] {
        assert_eq!(user_of(&data, &format!("arn:aws:iam::1:role/{bad}")), None);
    }
}

#[test]
fn a_text_that_is_no_list_maps_nobody_and_is_reported() {
    for text in ["{", "just a text", "rolearn: x", "- - :\n  x: ["] {
        let (found, errors) = AwsAuth::read(&data("mapRoles", text));
        assert_eq!(found, AwsAuth::default(), "{text}");
        assert!(!errors.is_empty(), "{text}");
    }
    for text in ["", " \n", "[]", "# nothing"] {
        assert_eq!(AwsAuth::read(&data("mapRoles", text)).1, [], "{text:?}");
    }
}

#[test]
fn names_of_keys_ignore_case_and_the_last_entry_of_an_arn_counts() {
    let text = format!(
        "- roleARN: {ROLE}\n  userName: first\n- ROLEARN: {ROLE}\n  USERNAME: second\n  Groups: [g]"
    );
    let found = user_of(&data("mapRoles", &text), ROLE);
    assert_eq!(found, Some(("second".into(), vec!["g".into()])));
}

#[test]
fn users_are_mapped_by_their_arn_and_a_role_is_no_user() {
    let bob = "arn:aws:iam::111122223333:user/team/bob";
    let text = format!("- userarn: {bob}\n  username: bob\n- userarn: {ROLE}\n");
    let data = data("mapUsers", &text);
    assert_eq!(user_of(&data, bob), Some(("bob".into(), vec![])));
    assert_eq!(user_of(&data, ROLE), None);
}

#[test]
fn principals_of_a_mapped_account_are_themselves_without_groups() {
    let data = data("mapAccounts", "- \"111122223333\"\n- 012345678901\n- {}\n");
    assert_eq!(user_of(&data, ROLE), Some((ROLE.into(), vec![])));
    let other = "arn:aws:iam::444455556666:role/node";
    assert_eq!(user_of(&data, other), None);
    assert_eq!(AwsAuth::read(&data).1.len(), 1);
}

#[test]
fn a_role_with_a_path_is_kept_but_reported_as_it_never_matches() {
    let text = "- rolearn: arn:aws:iam::111122223333:role/team/node\n  username: node";
    let (found, errors) = AwsAuth::read(&data("mapRoles", text));
    assert!(matches!(errors.as_slice(), [EntryError::Path { index: 0, .. }]), "{errors:?}");
    assert_eq!(found.find(&identity(ROLE)), None);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}", key in "map(Roles|Users|Accounts)") {
        AwsAuth::read(&data(&key, &text));
    }
}
