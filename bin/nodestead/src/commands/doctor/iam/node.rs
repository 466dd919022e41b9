//! What a worker node needs of AWS: everything else on its role is an application's.

use serde::Serialize;
use serde_json::Value;

use crate::iam::Document;

/// Managed policies that are made for nodes.
const NODE_POLICIES: [&str; 6] = [
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKSWorkerNodeMinimalPolicy",
    "AmazonEC2ContainerRegistryReadOnly",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonEKS_CNI_Policy",
    "AmazonSSMManagedInstanceCore",
];

/// The actions of those policies, and of the CNI with IPv6, in lower case.
const NODE_ACTIONS: &str = "ec2:describeinstances ec2:describeinstancetypes \
    ec2:describeroutetables ec2:describesecuritygroups ec2:describesubnets ec2:describevolumes \
    ec2:describevolumesmodifications ec2:describevpcs ec2:describetags \
    ec2:describenetworkinterfaces ec2:assignprivateipaddresses ec2:assignipv6addresses \
    ec2:unassignprivateipaddresses ec2:unassignipv6addresses ec2:attachnetworkinterface \
    ec2:createnetworkinterface ec2:deletenetworkinterface ec2:detachnetworkinterface \
    ec2:modifynetworkinterfaceattribute ec2:createtags eks:describecluster \
    eks-auth:assumeroleforpodidentity ecr:getauthorizationtoken ecr:batchchecklayeravailability \
    ecr:getdownloadurlforlayer ecr:getrepositorypolicy ecr:describerepositories ecr:listimages \
    ecr:describeimages ecr:batchgetimage ecr:batchimportupstreamimage ecr:getlifecyclepolicy \
    ecr:getlifecyclepolicypreview ecr:listtagsforresource ecr:describeimagescanfindings \
    ssm:updateinstanceinformation ssmmessages:createcontrolchannel \
    ssmmessages:createdatachannel ssmmessages:opencontrolchannel ssmmessages:opendatachannel";

/// What one statement allows that no node needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Permission {
    pub(super) policy: String,
    /// Its `Sid`, or its place from 0.
    pub(super) statement: String,
    pub(super) actions: Vec<String>,
    pub(super) resources: Vec<String>,
}

/// All that the policies allow beyond a node's needs. What a boundary takes away is not looked at:
/// it may be lifted.
pub(super) fn permissions(documents: &[Document]) -> Vec<Permission> {
    let is_of_nodes = |it: &&Document| {
        it.name
            .strip_prefix("arn:aws:iam::aws:policy/")
            .is_some_and(|it| NODE_POLICIES.contains(&it))
    };
    let others = documents.iter().filter(|it| !is_of_nodes(it));
    let found = others.flat_map(|document| {
        let statements = document.statements().into_iter().enumerate();
        statements.filter_map(|(index, it)| of_statement(&document.name, index, &it))
    });
    found.collect()
}

/// A statement's `Sid`, or its place from 0.
pub(super) fn named(statement: &Value, index: usize) -> String {
    let sid = statement["Sid"].as_str().filter(|it| !it.is_empty());
    sid.map_or_else(|| index.to_string(), str::to_owned)
}

fn of_statement(policy: &str, index: usize, statement: &Value) -> Option<Permission> {
    if statement["Effect"] != "Allow" {
        return None;
    }
    let mut actions: Vec<String> = texts(&statement["Action"]);
    // A pattern allows what nodes need and more.
    actions
        .retain(|it| !NODE_ACTIONS.split_whitespace().any(|known| it.eq_ignore_ascii_case(known)));
    let spared = texts(&statement["NotAction"]);
    if !spared.is_empty() {
        actions.push(format!("all but {}", spared.join(", ")));
    }
    if actions.is_empty() {
        return None;
    }
    let mut resources = texts(&statement["Resource"]);
    let spared = texts(&statement["NotResource"]);
    if !spared.is_empty() {
        resources.push(format!("all but {}", spared.join(", ")));
    }
    let statement = named(statement, index);
    Some(Permission { policy: policy.to_owned(), statement, actions, resources })
}

fn texts(value: &Value) -> Vec<String> {
    let several = value.as_array().map(Vec::as_slice);
    let all = several.unwrap_or_else(|| std::slice::from_ref(value));
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(name: &str, statement: Value) -> Vec<Permission> {
        let text = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
        permissions(&[Document { name: name.to_owned(), text }])
    }

    #[test]
    fn what_nodes_need_is_no_finding_in_whosever_policy_it_is() {
        let all = json!({"Effect": "Allow", "Action": ["EC2:DescribeInstances",
            "ecr:GetAuthorizationToken"], "Resource": "*"});
        assert_eq!(found("own", all), []);
        let cni = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy";
        assert_eq!(found(cni, json!({"Effect": "Allow", "Action": "*", "Resource": "*"})), []);
        let deny = json!({"Effect": "Deny", "Action": "s3:*", "Resource": "*"});
        assert_eq!(found("own", deny), []);
    }

    #[test]
    fn an_applications_actions_patterns_and_exceptions_are_found() {
        let mixed = json!([
            {"Sid": "App", "Effect": "Allow", "Action": ["ec2:DescribeVpcs", "s3:GetObject"],
             "Resource": "arn:aws:s3:::b/*"},
            {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"},
            {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},
        ]);
        let shown: Vec<_> = found("own", mixed)
            .into_iter()
            .map(|it| (it.statement, it.actions.join(" ")))
            .collect();
        let expected = [("App", "s3:GetObject"), ("1", "ec2:*"), ("2", "all but iam:*")];
        assert_eq!(shown, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let copied = "arn:aws:iam::111122223333:policy/AmazonEKS_CNI_Policy";
        let statement = json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"});
        assert_eq!(found(copied, statement).len(), 1, "a name proves nothing");
    }
}
