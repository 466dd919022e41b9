//! Holds every external dependency, so that cargo builds each with one set of features whichever package is asked for.
