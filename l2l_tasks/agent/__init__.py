"""The program that runs at the site: standard library only, Python 3.8 and later, shipped as one zipapp.

    call       answer one request of the controller (commands.py, framed by frame.py)
    worker     drain the pool of a campaign (worker.py)
    evaluate   evaluate one request after the other in a process of its own (evaluator.py)

The controller imports `results` (what workers write) and `build` (the zipapp) from here and nothing else.
"""
