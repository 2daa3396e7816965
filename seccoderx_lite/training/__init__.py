"""TRL's trainers set up for one shared base, the policy's reward callable, canaries and alarms.

Uses rewards, reporting, data, judge, run, models, recipe and core. The only room that imports TRL;
none of its methods is overridden.
"""
