"""stub"""
class Embedded:
    def start(self) -> str:
        raise NotImplementedError
