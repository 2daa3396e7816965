"""TRL's trainers set up for one shared base, the reward callables, canaries and alarms.

Uses rewards, judge, run, models, recipe and core. The only room that imports TRL, which gets
callables and callbacks only: none of its methods is overridden.
"""
