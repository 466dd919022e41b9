//! Repairs of a group whose nodes fall ill when a test says so, in virtual time.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A group, and an EKS that does the plans' steps.
struct World {
    config: NodeRepairConfig,
    book: Book,
    members: Vec<Member>,
    /// Told to go, and still there.
    leaving: Vec<String>,
    now: Timestamp,
    /// What was done, with the minute.
    done: Vec<(u64, String)>,
    /// Pods of nodes that are to reboot have gone.
    is_empty: bool,
}

impl World {
    fn new(size: usize) -> Self {
        let member =
            |it| Member { instance: format!("i-{it}"), has_node: true, unhealthy: Vec::new() };
        Self {
            config: NodeRepairConfig { enabled: Some(true), ..Default::default() },
            book: Book::default(),
            members: (0..size).map(member).collect(),
            leaving: Vec::new(),
            now: Timestamp::UNIX_EPOCH,
            done: Vec::new(),
            is_empty: true,
        }
    }

    fn fall_ill(&mut self, index: usize, condition: &str, reason: &str) {
        let what = Unhealthy {
            condition: condition.to_owned(),
            reason: reason.to_owned(),
            since: self.now,
        };
        self.members[index].unhealthy.push(what);
    }

    fn minute(&self) -> u64 {
        u64::try_from(self.now.as_second()).unwrap() / 60
    }

    /// As long as there is something to do, and then up to `minutes` from the start.
    fn run_until(&mut self, minutes: u64) {
        for _ in 0..10_000 {
            let there: Vec<String> = self.members.iter().map(|it| it.instance.clone()).collect();
            let all: Vec<&str> = there.iter().chain(&self.leaving).map(String::as_str).collect();
            let (repairs, wait) = plan(&self.config, &self.book, &self.members, &all, self.now);
            let is_quiet = repairs.is_empty();
            for repair in repairs {
                self.apply(repair);
            }
            if is_quiet || wait.is_some() {
                let end = Timestamp::UNIX_EPOCH + MINUTE * u32::try_from(minutes).unwrap();
                let later = |it: Duration| clock::later(self.now, it.max(Duration::from_secs(1)));
                let next = wait.map_or(end, later);
                if next >= end {
                    self.now = end;
                    return;
                }
                self.now = next;
            }
        }
        panic!("no end: {:?}", self.book);
    }

    fn apply(&mut self, repair: Repair) {
        let minute = self.minute();
        match repair {
            Repair::Remember(book) => self.book = book,
            Repair::Replace { instance, .. } => {
                self.members.retain(|it| it.instance != instance);
                self.done.push((minute, format!("replace {instance}")));
                self.leaving.push(instance);
            }
            Repair::Reboot { instance, .. } => {
                if self.is_empty {
                    self.book.reboots.get_mut(&instance).unwrap().told_at = Some(self.now);
                    self.done.push((minute, format!("reboot {instance}")));
                }
            }
            Repair::Welcome { instance } => self.done.push((minute, format!("welcome {instance}"))),
        }
    }

    fn done(&self) -> Vec<(u64, &str)> {
        self.done.iter().map(|(at, what)| (*at, what.as_str())).collect()
    }
}

fn overriding(action: &str, minutes: i64) -> Vec<NodeRepairConfigOverrides> {
    vec![NodeRepairConfigOverrides {
        node_monitoring_condition: Some(HARDWARE.to_owned()),
        node_unhealthy_reason: Some("NvidiaXID64Error".to_owned()),
        min_repair_wait_time_mins: Some(minutes),
        repair_action: Some(action.to_owned()),
    }]
}

/// Whoever is cut off between two steps leaves no node that takes no pods.
#[test]
fn a_node_takes_pods_again_before_its_reboot_is_forgotten_also_where_repairs_are_switched_off() {
    let mut world = World::new(3);
    world.config.node_repair_config_overrides = overriding("Reboot", 0);
    world.fall_ill(0, HARDWARE, "NvidiaXID64Error");
    world.is_empty = false;
    world.run_until(1);
    assert_eq!(world.book.reboots.len(), 1, "it is being emptied");
    let repairs = end(&world.book);
    let welcome = Repair::Welcome { instance: "i-0".to_owned() };
    assert_eq!(repairs, [welcome.clone(), Repair::Remember(Book::default())]);
    assert_eq!(end(&Book::default()), []);

    world.is_empty = true;
    world.run_until(2);
    world.members[0].unhealthy.clear();
    world.now = clock::later(world.now, SETTLED);
    let all = ["i-0", "i-1", "i-2"];
    let (repairs, _) = plan(&world.config, &world.book, &world.members, &all, world.now);
    assert_eq!(repairs[0], welcome);
    assert!(matches!(&repairs[1], Repair::Remember(book) if book.reboots.is_empty()));
}

#[test]
fn a_node_that_is_not_ready_for_half_an_hour_is_replaced_and_hardware_after_ten_minutes() {
    let mut world = World::new(3);
    world.fall_ill(1, "Ready", "NodeStatusUnknown");
    world.run_until(29);
    assert_eq!(world.done(), []);
    world.run_until(31);
    assert_eq!(world.done(), [(30, "replace i-1")]);

    let mut world = World::new(3);
    world.fall_ill(0, HARDWARE, "NvidiaXID64Error");
    world.run_until(60);
    assert_eq!(world.done(), [(10, "replace i-0")]);
}

#[test]
fn every_condition_of_the_agent_has_its_time_and_pressure_has_none() {
    for condition in OTHERS {
        let mut world = World::new(1);
        world.fall_ill(0, condition, "Any");
        world.run_until(60);
        assert_eq!(world.done(), [(30, "replace i-0")], "{condition}");
    }
    for pressure in ["DiskPressure", "MemoryPressure", "PIDPressure"] {
        assert!(!is_watched(pressure, None));
        let mut world = World::new(1);
        world.fall_ill(0, pressure, "KubeletHasDiskPressure");
        world.run_until(600);
        assert_eq!(world.done(), [], "{pressure}");
    }
}

#[test]
fn a_node_that_gets_well_in_time_is_left_alone() {
    let mut world = World::new(3);
    world.fall_ill(1, "Ready", "KubeletNotReady");
    world.run_until(29);
    world.members[1].unhealthy.clear();
    world.run_until(120);
    assert_eq!(world.done(), []);
}

#[test]
fn a_node_whose_object_was_deleted_is_replaced_and_one_that_never_joined_is_not() {
    let mut world = World::new(3);
    world.members[2].has_node = false;
    world.run_until(5);
    assert!(!world.book.known.contains_key("i-2"));
    world.members[0].has_node = false;
    world.run_until(120);
    assert_eq!(world.done(), [(35, "replace i-0")]);
}

#[test]
fn nothing_is_begun_while_more_than_a_fifth_of_a_large_group_is_unhealthy() {
    let mut world = World::new(10);
    for index in 0..3 {
        world.fall_ill(index, "Ready", "NodeStatusUnknown");
    }
    world.run_until(100);
    assert_eq!(world.done(), []);
    // One gets well: a fifth may be.
    world.members[0].unhealthy.clear();
    world.run_until(101);
    assert_eq!(world.done(), [(100, "replace i-1"), (100, "replace i-2")]);

    let mut small = World::new(5);
    for index in 0..5 {
        small.fall_ill(index, "Ready", "NodeStatusUnknown");
    }
    small.run_until(31);
    assert_eq!(small.done().len(), 5, "five nodes are a small group");
}

#[test]
fn thresholds_can_be_given_as_a_count_and_as_a_percentage() {
    let ill = |change: &dyn Fn(&mut NodeRepairConfig)| {
        let mut world = World::new(4);
        change(&mut world.config);
        world.fall_ill(0, "Ready", "NodeStatusUnknown");
        world.fall_ill(1, "Ready", "NodeStatusUnknown");
        world.run_until(60);
        world.done.len()
    };
    assert_eq!(ill(&|it| it.max_unhealthy_node_threshold_count = Some(1)), 0);
    assert_eq!(ill(&|it| it.max_unhealthy_node_threshold_count = Some(2)), 2);
    assert_eq!(ill(&|it| it.max_unhealthy_node_threshold_percentage = Some(49)), 0);
    assert_eq!(ill(&|it| it.max_unhealthy_node_threshold_percentage = Some(50)), 2);
}

#[test]
fn no_more_are_repaired_at_once_than_is_said_until_the_first_are_gone() {
    let mut world = World::new(4);
    world.config.max_parallel_nodes_repaired_count = Some(1);
    for index in 0..3 {
        world.fall_ill(index, "Ready", "NodeStatusUnknown");
    }
    world.run_until(45);
    assert_eq!(world.done(), [(30, "replace i-0")]);
    world.leaving.clear();
    world.run_until(46);
    assert_eq!(world.done(), [(30, "replace i-0"), (45, "replace i-1")]);

    let mut world = World::new(4);
    world.config.max_parallel_nodes_repaired_percentage = Some(50);
    for index in 0..4 {
        world.fall_ill(index, "Ready", "NodeStatusUnknown");
    }
    world.run_until(31);
    assert_eq!(world.done().len(), 2, "of the unhealthy ones");
}

#[test]
fn an_override_says_what_is_done_about_one_reason_and_when() {
    let mut world = World::new(3);
    world.config.node_repair_config_overrides = overriding("NoAction", 1);
    world.fall_ill(0, HARDWARE, "NvidiaXID64Error");
    world.fall_ill(1, HARDWARE, "NvidiaXID48Error");
    world.run_until(120);
    assert_eq!(world.done(), [(10, "replace i-1")], "the other reason keeps its treatment");

    let mut world = World::new(3);
    world.config.node_repair_config_overrides = overriding("Replace", 3);
    world.fall_ill(0, HARDWARE, "NvidiaXID64Error");
    world.run_until(120);
    assert_eq!(world.done(), [(3, "replace i-0")]);

    let mut world = World::new(3);
    world.config.node_repair_config_overrides = overriding("Replace", i64::MAX);
    world.fall_ill(0, HARDWARE, "NvidiaXID64Error");
    world.run_until(120);
    assert_eq!(world.done(), [], "that time never comes");
}

#[test]
fn a_node_is_emptied_rebooted_and_welcomed_when_that_has_helped() {
    let mut world = World::new(3);
    world.config.node_repair_config_overrides = overriding("Reboot", 5);
    world.is_empty = false;
    world.fall_ill(0, HARDWARE, "NvidiaXID64Error");
    world.run_until(7);
    assert_eq!(world.done(), [], "its pods are still there");
    world.is_empty = true;
    world.run_until(9);
    assert_eq!(world.done(), [(7, "reboot i-0")]);
    world.members[0].unhealthy.clear();
    world.run_until(60);
    assert_eq!(world.done(), [(7, "reboot i-0"), (9, "welcome i-0")]);
    assert!(world.book.reboots.is_empty());
}

#[test]
fn what_nothing_is_to_be_done_about_does_not_make_a_reboot_fail() {
    let mut world = World::new(3);
    let mut overrides = overriding("Reboot", 5);
    overrides.push(NodeRepairConfigOverrides {
        node_monitoring_condition: Some("StorageReady".to_owned()),
        node_unhealthy_reason: Some("XFSSmallAverageClusterSize".to_owned()),
        ..overriding("NoAction", 1).remove(0)
    });
    world.config.node_repair_config_overrides = overrides;
    world.fall_ill(0, HARDWARE, "NvidiaXID64Error");
    world.fall_ill(0, "StorageReady", "XFSSmallAverageClusterSize");
    world.run_until(6);
    world.members[0].unhealthy.retain(|it| it.condition != HARDWARE);
    world.run_until(120);
    assert_eq!(world.done(), [(5, "reboot i-0"), (6, "welcome i-0")]);
}

#[test]
fn a_node_that_a_reboot_has_not_helped_is_replaced() {
    let mut world = World::new(3);
    world.config.node_repair_config_overrides = overriding("Reboot", 5);
    world.fall_ill(0, HARDWARE, "NvidiaXID64Error");
    world.run_until(120);
    assert_eq!(world.done(), [(5, "reboot i-0"), (35, "replace i-0")]);
}

#[test]
fn whoever_is_cut_off_between_remembering_and_doing_goes_on() {
    let mut world = World::new(3);
    world.fall_ill(1, "Ready", "NodeStatusUnknown");
    world.run_until(29);
    world.now += MINUTE;
    let there: Vec<String> = world.members.iter().map(|it| it.instance.clone()).collect();
    let all: Vec<&str> = there.iter().map(String::as_str).collect();
    let (repairs, _) = plan(&world.config, &world.book, &world.members, &all, world.now);
    let Some(Repair::Remember(book)) = repairs.first().cloned() else { panic!("{repairs:?}") };
    world.book = book;
    world.run_until(31);
    assert_eq!(world.done(), [(30, "replace i-1")]);
}
