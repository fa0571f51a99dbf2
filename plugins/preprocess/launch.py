"""placeholder"""
def plan(a, i):
    raise NotImplementedError
