//! What the new nodes cannot cost less than.
//!
//! A linear programme: how many nodes of each option, in fractions, cover what the pods request
//! beyond what nodes have free? Each resource is a row; so is each group of pods that are
//! anti-affine to each other by hostname, of whom a node takes one. No packing costs less than its
//! optimum. (Of a spread over hostnames a node may take more than its skew, where all have some.)
//!
//! It is solved through its dual (a price per unit of each row, such that no node's contents are
//! worth more than the node costs), by the simplex method. What rounding may have broken is mended by
//! making all prices a little smaller, so the bound holds whatever the arithmetic did.

use crate::{
    bits::Bits,
    engine::Engine,
    solve::Placement,
    state::State,
    topology::{GroupId, Kind},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Bound {
    /// US dollars per hour.
    pub(crate) price: f64,
    /// Per pool: the options that the optimum is made of, with others of the same families.
    pub(crate) support: Vec<Bits>,
}

/// One kind of node: what it costs and what it holds.
struct Column {
    pool: usize,
    option: usize,
    price: f64,
    holds: Vec<f64>,
}

/// The bound for those pods of a placement that have a place, beginning from `start`.
pub(crate) fn lower(engine: &Engine, start: &State, placement: &Placement) -> Bound {
    let groups = apart(engine, placement);
    let (demand, usable) = demand(engine, start, placement, &groups);
    let columns = columns(engine, placement, &usable, &groups, &demand);
    let rows: Vec<usize> = (0..demand.len()).filter(|it| demand[*it] > 0.0).collect();
    let wanted: Vec<f64> = rows.iter().map(|it| demand[*it]).collect();
    let holds: Vec<Vec<f64>> =
        columns.iter().map(|it| rows.iter().map(|row| it.holds[*row]).collect()).collect();
    let prices: Vec<f64> = columns.iter().map(|it| it.price).collect();
    let (worth, basis) = dual(&wanted, &holds, &prices);
    let value = |holds: &[f64]| holds.iter().zip(&worth).map(|(a, b)| a * b).sum::<f64>();
    let over = holds.iter().zip(&prices).filter(|(_, price)| **price > 0.0);
    let over = over.map(|(holds, price)| value(holds) / price).fold(1.0, f64::max);
    let price = value(&wanted) / over;
    let mut support: Vec<Bits> =
        engine.catalogs.iter().map(|it| Bits::none(it.choices.len())).collect();
    for column in basis.into_iter().filter_map(|it| columns.get(it)) {
        add_family(engine, column, &mut support[column.pool]);
    }
    Bound { price: price.max(0.0), support }
}

/// All sizes of a column's family, in all offerings.
fn add_family(engine: &Engine, column: &Column, support: &mut Bits) {
    let catalog = &engine.catalogs[column.pool];
    let family = |option: usize| {
        let name = catalog.kind(option).name.clone();
        name.split_once('.').map_or_else(|| name.to_string(), |(family, _)| family.to_owned())
    };
    let wanted = family(column.option);
    (0..catalog.choices.len()).filter(|it| family(*it) == wanted).for_each(|it| support.set(it));
}

/// Groups of the hostname whose pods keep apart from each other, and how many a node takes.
fn apart(engine: &Engine, placement: &Placement) -> Vec<(GroupId, f64)> {
    let mut found: Vec<(GroupId, f64)> = Vec::new();
    for (_, class, _) in &placement.state.placed {
        let class = &engine.classes[*class];
        for id in class.owned.iter().filter(|it| class.counted.contains(it)) {
            let group = &engine.groups.all[*id];
            if group.key.is_some() || found.iter().any(|(it, _)| it == id) {
                continue;
            }
            if group.kind == Kind::AntiAffinity {
                found.push((*id, 1.0));
            }
        }
    }
    found
}

/// What is wanted of new nodes by row, and which options some pod can use, by pool.
fn demand(
    engine: &Engine,
    start: &State,
    placement: &Placement,
    groups: &[(GroupId, f64)],
) -> (Vec<f64>, Vec<Bits>) {
    let resources = engine.dimensions.len();
    let mut demand = vec![0.0; resources + groups.len()];
    for (_, class, _) in &placement.state.placed {
        let class = &engine.classes[*class];
        for (row, wanted) in class.request.iter().enumerate() {
            demand[row] += *wanted as f64;
        }
        for (row, (id, _)) in groups.iter().enumerate() {
            if class.owned.contains(id) && class.counted.contains(id) {
                demand[resources + row] += 1.0;
            }
        }
    }
    for node in start.nodes.iter().filter(|it| !it.is_gone) {
        for (row, free) in node.free.iter().enumerate() {
            demand[row] -= (*free).max(0) as f64;
        }
        for (row, (_, most)) in groups.iter().enumerate() {
            demand[resources + row] -= most;
        }
    }
    (demand, engine.catalogs.iter().map(|it| it.available.clone()).collect())
}

fn columns(
    engine: &Engine,
    placement: &Placement,
    usable: &[Bits],
    groups: &[(GroupId, f64)],
    demand: &[f64],
) -> Vec<Column> {
    let mut columns = Vec::new();
    for (pool, catalog) in engine.catalogs.iter().enumerate() {
        let mut options = usable[pool].clone();
        options.keep(&wanted(engine, placement, pool));
        // Of one type, only the cheapest option matters here.
        let mut seen = vec![false; catalog.room.len()];
        for option in options.iter() {
            let choice = catalog.choices[option];
            if std::mem::replace(&mut seen[choice.kind as usize], true) {
                continue;
            }
            let mut holds: Vec<f64> =
                catalog.room[choice.kind as usize].iter().map(|it| (*it).max(0) as f64).collect();
            holds.extend(groups.iter().map(|(_, most)| *most));
            debug_assert_eq!(holds.len(), demand.len());
            columns.push(Column { pool, option, price: choice.price, holds });
        }
    }
    columns
}

/// The options of a pool that the wishes of any placed pod leave.
fn wanted(engine: &Engine, placement: &Placement, pool: usize) -> Bits {
    let mut all = Bits::none(engine.catalogs[pool].choices.len());
    let mut seen = vec![false; engine.classes.len()];
    for (_, class, _) in &placement.state.placed {
        if std::mem::replace(&mut seen[*class], true) || !engine.classes[*class].pools[pool] {
            continue;
        }
        for alternative in engine.alternatives(*class) {
            let mut options = engine.set(pool, 0).options.clone();
            for (key, requirement) in alternative.requirements.iter() {
                if let Some(selected) = engine.catalogs[pool].selected(key, requirement) {
                    options.keep(&selected);
                }
            }
            all.add(&options);
        }
    }
    all
}

/// Maximises `wanted · y` over `holds · y ≤ price` for each column, `y ≥ 0`: the prices `y`, and
/// the columns that are tight. Every step leaves prices that hold, so it may end before the optimum,
/// should it go round in circles.
fn dual(wanted: &[f64], holds: &[Vec<f64>], prices: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let (rows, columns) = (wanted.len(), holds.len());
    if rows == 0 || columns == 0 {
        return (vec![0.0; rows], Vec::new());
    }
    // Rows of the tableau are the columns of the programme, scaled so that numbers are alike.
    let scale: Vec<f64> = wanted.iter().map(|it| 1.0 / it).collect();
    let mut table: Vec<Vec<f64>> = holds
        .iter()
        .zip(prices)
        .map(|(holds, price)| {
            let mut line: Vec<f64> = holds.iter().zip(&scale).map(|(it, by)| it * by).collect();
            line.push(*price);
            line
        })
        .collect();
    let mut goal: Vec<f64> = vec![1.0; rows];
    // Which variable each line and each place of a line stands for: prices first, then slacks.
    let mut of_line: Vec<usize> = (rows..rows + columns).collect();
    let mut of_place: Vec<usize> = (0..rows).collect();
    for _ in 0..2000 {
        let entering =
            (0..rows).filter(|it| goal[*it] > 1e-9).max_by(|a, b| goal[*a].total_cmp(&goal[*b]));
        let Some(place) = entering else { break };
        let ratio = |line: &Vec<f64>| line[rows] / line[place];
        let able = (0..columns).filter(|it| table[*it][place] > 1e-12);
        let leaving = able.min_by(|a, b| ratio(&table[*a]).total_cmp(&ratio(&table[*b])));
        // Nothing holds this row: it cannot be bounded, and so bounds nothing.
        let Some(line) = leaving else {
            goal[place] = 0.0;
            continue;
        };
        pivot(&mut table, &mut goal, line, place);
        std::mem::swap(&mut of_line[line], &mut of_place[place]);
    }
    let mut worth = vec![0.0; rows];
    for (line, variable) in of_line.iter().enumerate() {
        if *variable < rows {
            worth[*variable] = (table[line][rows] * scale[*variable]).max(0.0);
        }
    }
    let tight = of_place.into_iter().filter_map(|it| it.checked_sub(rows)).collect();
    (worth, tight)
}

fn pivot(table: &mut [Vec<f64>], goal: &mut [f64], line: usize, place: usize) {
    let by = table[line][place];
    table[line].iter_mut().for_each(|it| *it /= by);
    table[line][place] = 1.0 / by;
    let chosen = table[line].clone();
    for (at, other) in table.iter_mut().enumerate() {
        let factor = other[place];
        if at == line || factor == 0.0 {
            continue;
        }
        for (mine, it) in other.iter_mut().zip(&chosen) {
            *mine -= factor * it;
        }
        other[place] = -factor / by;
    }
    let factor = goal[place];
    for (mine, it) in goal.iter_mut().zip(&chosen) {
        *mine -= factor * it;
    }
    goal[place] = -factor / by;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dual_finds_the_cheapest_cover() {
        // Two of the second kind cover (4, 4) for 6; the first kind alone would take 4 for 8.
        let (worth, _) = dual(&[4.0, 4.0], &[vec![1.0, 2.0], vec![2.0, 2.0]], &[2.0, 3.0]);
        let value = 4.0 * worth[0] + 4.0 * worth[1];
        assert!((value - 6.0).abs() < 1e-9, "{value}");
    }

    #[test]
    fn kinds_that_complement_each_other_are_mixed() {
        let (worth, tight) = dual(
            &[10.0, 10.0],
            &[vec![10.0, 1.0], vec![1.0, 10.0], vec![5.0, 5.0]],
            &[1.0, 1.0, 1.0],
        );
        let value = 10.0 * (worth[0] + worth[1]);
        assert!((value - 20.0 / 11.0).abs() < 1e-9, "{value}");
        assert_eq!(tight.len(), 2);
    }

    #[test]
    fn what_nothing_holds_bounds_nothing() {
        let (worth, _) = dual(&[1.0, 1.0], &[vec![1.0, 0.0]], &[1.0]);
        assert!((worth[0] - 1.0).abs() < 1e-9 && worth[1] == 0.0);
    }
}
