//! Version updates of a world that does what it is asked for.

use std::collections::BTreeMap;

use super::*;
use crate::nodegroups::{
    reconcile::plan::{self as whole, NodeFacts, Origin},
    records::State,
    rollout::Target,
};

const LIMITS: Limits = Limits {
    creation: Duration::ZERO,
    join: Duration::from_secs(1200),
    drained: Duration::from_secs(60),
};
const ZONES: [&str; 3] = ["a", "b", "c"];

/// An Auto Scaling group, the nodes of its instances, and an EKS that does the plans' steps.
struct World {
    group: Nodegroup,
    seen: Observed,
    now: Timestamp,
    made: usize,
    /// Pods on old nodes do not go.
    is_stuck: bool,
    /// New instances never become nodes.
    is_broken: bool,
    /// The most that the machine has room for.
    room: usize,
    /// The fewest nodes at work, and the most old ones on their way out at once.
    fewest: usize,
    most_away: usize,
    largest: i64,
    outcome: Option<Result<(), Issue>>,
}

impl World {
    fn new(change: impl FnOnce(&mut Nodegroup)) -> Self {
        let sizes = Scaling { min: 0, max: 4, desired: 3 };
        let mut group = super::super::plan::tests::group(State::Updating);
        group.scaling = sizes;
        change(&mut group);
        let target = Target {
            version: "1.36".to_owned(),
            release_version: "2".to_owned(),
            image_id: "ami-2".to_owned(),
            source: None,
        };
        let force = group.rollout.as_ref().is_some_and(|it| it.force);
        let rollout = Rollout::new(target, force, &group, Timestamp::UNIX_EPOCH);
        group.rollout = Some(Box::new(rollout));
        let seen = Observed {
            sizes: Some(sizes),
            zones: ZONES.map(str::to_owned).into(),
            ..Observed::default()
        };
        let mut world = Self {
            group,
            seen,
            now: Timestamp::UNIX_EPOCH,
            made: 0,
            is_stuck: false,
            is_broken: false,
            room: 100,
            fewest: usize::MAX,
            most_away: 0,
            largest: 0,
            outcome: None,
        };
        for _ in 0..3 {
            world.launch("1");
        }
        world
    }

    fn launch(&mut self, version: &str) {
        let id = format!("i-{}", self.made);
        let zone = ZONES[self.made % 3].to_owned();
        self.made += 1;
        self.seen.instances.push((id.clone(), "InService".to_owned()));
        self.seen.origins.insert(id.clone(), Origin { zone, version: version.to_owned() });
        if version == "1" || !self.is_broken {
            self.seen.ready.push(id.clone());
            let node = NodeFacts { name: format!("node-{id}"), is_retired: false };
            self.seen.nodes.insert(id, node);
        }
    }

    fn rollout(&mut self) -> &mut Rollout {
        self.group.rollout.as_mut().unwrap()
    }

    /// One pass, what it asks for, and what the Auto Scaling group makes of it.
    fn pass(&mut self) {
        let plan = whole::plan(&self.group, &self.seen, self.now, LIMITS);
        assert!(!plan.steps.is_empty() || plan.wait.is_some(), "stuck: {:?}", self.group.rollout);
        for step in plan.steps {
            self.apply(step);
        }
        let wanted = usize::try_from(self.seen.sizes.unwrap().desired).unwrap();
        while self.seen.instances.len() < wanted.min(self.room) {
            self.launch("2");
        }
        while self.seen.instances.len() > wanted {
            let id = self.seen.instances.last().unwrap().0.clone();
            self.remove(&id);
        }
        let is_full = self.seen.instances.len() < wanted;
        self.seen.launch_failure = is_full.then(|| "no room".to_owned());
        self.measure();
        self.now += plan.wait.unwrap_or(Duration::from_secs(1)).max(Duration::from_secs(1));
    }

    fn measure(&mut self) {
        let Some(rollout) = self.group.rollout.as_ref() else { return };
        let is_old = |id: &str| self.seen.origins[id].version == "1";
        let at_work = |id: &&String| !rollout.emptying.contains_key(*id);
        self.fewest = self.fewest.min(self.seen.ready.iter().filter(at_work).count());
        let away = self.seen.instances.iter().filter(|(id, _)| is_old(id) && !at_work(&id));
        self.most_away = self.most_away.max(away.count());
        self.largest = self.largest.max(self.seen.sizes.unwrap().desired);
    }

    fn apply(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Roll(Roll::SetUp { before, now: sizes }) => {
                let rollout = self.rollout();
                (rollout.before, rollout.asked) = (before, sizes);
                rollout.template_version = Some(2);
                rollout.phase = Phase::ScaleUp;
            }
            Step::Roll(Roll::Resize(sizes)) => {
                self.seen.sizes = Some(sizes);
                self.rollout().asked = sizes;
            }
            Step::Roll(Roll::Enter(phase)) => {
                self.rollout().phase = phase;
                self.rollout().moved_at = now;
            }
            Step::Roll(Roll::Retire(ids)) => {
                for id in ids {
                    self.seen.nodes.get_mut(&id).unwrap().is_retired = true;
                }
            }
            Step::Roll(Roll::Empty { instance }) => {
                self.rollout().emptying.entry(instance.clone()).or_insert(now);
                if !self.is_stuck || self.rollout().force {
                    self.rollout().emptied.insert(instance, now);
                }
            }
            Step::Roll(Roll::Terminate { instance }) => {
                let empty = self.rollout().emptied[&instance];
                assert!(now.duration_since(empty) >= jiff::SignedDuration::from_secs(60));
                self.rollout().moved_at = now;
                self.remove(&instance);
            }
            Step::Roll(Roll::Finish) => self.outcome = Some(Ok(())),
            Step::Fail(issue) => self.outcome = Some(Err(issue)),
            other => panic!("{other:?}"),
        }
    }

    fn remove(&mut self, id: &str) {
        self.seen.instances.retain(|(it, _)| it != id);
        self.seen.ready.retain(|it| it != id);
    }

    fn run(mut self) -> Self {
        for _ in 0..10_000 {
            self.pass();
            if self.outcome.is_some() {
                return self;
            }
        }
        panic!("no end: {:?}", self.group.rollout);
    }

    fn versions(&self) -> BTreeMap<&str, usize> {
        let mut versions = BTreeMap::new();
        for (id, _) in &self.seen.instances {
            *versions.entry(self.seen.origins[id].version.as_str()).or_default() += 1;
        }
        versions
    }

    fn failure(&self) -> &Issue {
        self.outcome.as_ref().unwrap().as_ref().unwrap_err()
    }
}

#[test]
fn new_nodes_come_before_old_ones_go_and_the_sizes_come_back() {
    let world = World::new(|_| {}).run();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.versions(), [("2", 3)].into());
    assert_eq!(world.seen.sizes, Some(world.group.scaling));
    assert_eq!(world.largest, 9, "two more for each zone");
    assert_eq!(world.most_away, 1);
    assert!(world.fewest >= 3, "{}", world.fewest);
}

#[test]
fn as_many_nodes_go_at_once_as_may_be_unavailable() {
    let world = World::new(|it| it.max_unavailable = 2).run();
    assert_eq!((world.most_away, world.versions()), (2, [("2", 3)].into()));
    let world = World::new(|it| it.max_unavailable_percentage = Some(100)).run();
    assert_eq!((world.most_away, world.versions()), (3, [("2", 3)].into()));
    // Parts of a node are whole ones.
    let group = World::new(|it| it.max_unavailable_percentage = Some(34)).group;
    assert_eq!((group.at_once(3), group.at_once(1), group.at_once(1000)), (2, 1, 100));
}

#[test]
fn where_capacity_is_scarce_old_nodes_go_first() {
    let world = World::new(|it| it.update_strategy = Some(Strategy::Minimal)).run();
    assert_eq!((world.largest, world.most_away), (3, 1), "never more than there were");
    assert_eq!((world.versions(), world.fewest), ([("2", 3)].into(), 2));
}

#[test]
fn pods_that_do_not_go_end_the_update_unless_it_is_forced() {
    let mut world = World::new(|_| {});
    world.is_stuck = true;
    let world = world.run();
    let issue = world.failure();
    assert_eq!((issue.code.as_str(), issue.resources.len()), ("PodEvictionFailure", 1));
    assert!(issue.resources[0].starts_with("node-i-"), "{issue:?}");
    assert!(issue.message.starts_with("Reached max retries while trying to evict pods"));
    assert!(world.now.as_second() >= 900, "after a quarter of an hour");
    assert_eq!(world.versions().get("1"), Some(&3), "what there was stays");

    let mut forced = World::new(|_| {});
    (forced.is_stuck, forced.rollout().force) = (true, true);
    assert_eq!(forced.run().versions(), [("2", 3)].into());
}

#[test]
fn an_update_whose_new_nodes_do_not_come_fails_and_keeps_the_old_ones() {
    for change in [Strategy::Default, Strategy::Minimal] {
        let mut world = World::new(|it| it.update_strategy = Some(change));
        world.is_broken = true;
        let world = world.run();
        let issue = world.failure();
        assert_eq!(issue.code, "NodeCreationFailure");
        assert!(!issue.resources.is_empty());
        let kept = if change == Strategy::Default { 3 } else { 2 };
        assert_eq!(world.versions().get("1"), Some(&kept));
    }
}

#[test]
fn a_machine_that_has_room_for_one_new_node_in_each_zone_is_large_enough() {
    let mut world = World::new(|_| {});
    world.room = 6;
    assert_eq!(world.run().versions(), [("2", 3)].into());
    let mut small = World::new(|_| {});
    small.room = 5;
    let small = small.run();
    assert_eq!(small.failure().code, "NodeCreationFailure");
    assert!(small.failure().message.ends_with("no room"), "{:?}", small.failure());
}

#[test]
fn another_try_comes_back_to_the_sizes_of_before_the_first() {
    let mut world = World::new(|_| {});
    world.is_stuck = true;
    let mut world = world.run();
    let left = crate::nodegroups::rollout::Left {
        before: world.group.scaling,
        sizes: world.seen.sizes.unwrap(),
    };
    world.group.left = Some(left);
    let target = world.rollout().target.clone();
    let again = Rollout::new(target, true, &world.group, world.now);
    world.group.rollout = Some(Box::new(again));
    (world.outcome, world.largest) = (None, 0);
    let world = world.run();
    assert_eq!((world.versions(), world.largest), ([("2", 3)].into(), 9));
    assert_eq!(world.seen.sizes, Some(world.group.scaling));
}

#[test]
fn nodes_that_are_up_to_date_and_groups_without_any_are_done_at_once() {
    let mut same = World::new(|_| {});
    same.seen.origins.values_mut().for_each(|it| it.version = "2".to_owned());
    let same = same.run();
    assert_eq!((same.made, same.outcome), (3, Some(Ok(()))));
    let mut none = World::new(|_| {});
    none.seen = Observed { sizes: Some(Scaling { min: 0, max: 4, desired: 0 }), ..none.seen };
    none.seen.instances.clear();
    assert_eq!(none.run().largest, 0);
}

#[test]
fn sizes_that_somebody_else_has_raised_meanwhile_are_left() {
    let mut world = World::new(|_| {});
    while world.rollout().phase != Phase::ScaleDown {
        world.pass();
    }
    let sizes = world.seen.sizes.unwrap();
    world.seen.sizes = Some(Scaling { max: 20, desired: sizes.desired + 1, ..sizes });
    let world = world.run();
    assert_eq!(world.seen.sizes.unwrap().desired, sizes.desired + 1);
}
