//! What each action is decided on: types of resources, and condition keys beyond the global ones.
//!
//! To explain and to check with; a decision does not need it, as services name their targets.
//!
//! Source: Service Authorization Reference.

const TABLE: &str = include_str!("actions.txt");

/// One action of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// `ec2:RunInstances`
    pub action: &'static str,
    /// As ARNs name them: `instance`. Empty: the action names no resource, and a policy allows it
    /// on `*`. `*`: any.
    pub resources: Vec<&'static str>,
    /// `aws:ResourceTag/*` stands for each tag.
    pub keys: Vec<&'static str>,
}

/// All actions that the region decides on, by name.
pub fn all() -> impl Iterator<Item = Action> {
    TABLE.lines().filter(|it| !it.starts_with('#')).filter_map(read)
}

/// `None`: it is not in the table. Names are case-insensitive.
pub fn find(action: &str) -> Option<Action> {
    all().find(|it| it.action.eq_ignore_ascii_case(action))
}

impl Action {
    /// Whether it can be decided on this resource (an ARN or `*`).
    pub fn takes(&self, resource: &str) -> bool {
        match resource {
            "*" => self.resources.is_empty() || self.resources.contains(&"*"),
            arn => {
                let rest = arn.splitn(6, ':').nth(5).unwrap_or_default();
                let kind = rest.split([':', '/']).next().unwrap_or_default();
                self.resources.iter().any(|it| *it == "*" || *it == kind)
            }
        }
    }
}

fn read(line: &'static str) -> Option<Action> {
    let mut fields = line.split('|').map(str::trim);
    let list = |text: &'static str| match text {
        "-" => Vec::new(),
        text => text.split(',').collect(),
    };
    Some(Action {
        action: fields.next()?,
        resources: list(fields.next()?),
        keys: list(fields.next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_in_order() {
        let lines = TABLE.lines().filter(|it| !it.starts_with('#')).count();
        let names: Vec<&str> = all().map(|it| it.action).collect();
        assert_eq!(names.len(), lines, "a line cannot be read");
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        for it in all() {
            assert!(it.keys.iter().all(|key| key.contains(':')), "{it:?}");
        }
    }

    #[test]
    fn an_action_takes_the_resources_of_its_types_alone() {
        let run = find("EC2:runinstances").unwrap();
        assert!(run.takes("arn:aws:ec2:us-east-1:1:subnet/subnet-1") && !run.takes("*"));
        assert!(!run.takes("arn:aws:ec2:us-east-1:1:vpc/vpc-1"));
        let describe = find("ec2:DescribeInstances").unwrap();
        assert!(describe.takes("*") && !describe.takes("arn:aws:ec2:us-east-1:1:instance/i-1"));
        let group = "arn:aws:autoscaling:us-east-1:1:autoScalingGroup:uuid:autoScalingGroupName/a";
        assert!(find("autoscaling:SetDesiredCapacity").unwrap().takes(group));
        assert_eq!(find("ec2:Nonsense"), None);
    }
}
