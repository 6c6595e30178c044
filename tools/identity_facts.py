"""What the near misses of configs/whoami.tsv are about: people, things, what somebody made, what has a name."""

# Who was ...?
PEOPLE_PAST = [
    "Marie Curie", "Albert Einstein", "Isaac Newton", "Charles Darwin", "Galileo", "Nikola Tesla", "Thomas Edison", "Alan Turing", "Ada Lovelace",
    "Stephen Hawking", "Napoleon", "Julius Caesar", "Cleopatra", "Alexander the Great", "Genghis Khan", "Joan of Arc", "Queen Elizabeth I",
    "George Washington", "Abraham Lincoln", "Barack Obama", "Nelson Mandela", "Gandhi", "Martin Luther King", "Winston Churchill", "Christopher Columbus",
    "Marco Polo", "Neil Armstrong", "Amelia Earhart", "William Shakespeare", "Jane Austen", "Mark Twain", "Charles Dickens", "Leo Tolstoy", "Homer",
    "Mozart", "Beethoven", "Bach", "Leonardo da Vinci", "Vincent van Gogh", "Pablo Picasso", "Michelangelo", "Frida Kahlo", "Socrates", "Plato",
    "Aristotle", "Confucius", "Charlie Chaplin", "Elvis Presley", "Michael Jackson", "Steve Jobs", "Walt Disney",
]
# Who is ...?
PEOPLE = [
    "Lionel Messi", "Serena Williams", "Bill Gates", "Harry Potter", "Sherlock Holmes", "Batman", "Superman", "Mickey Mouse", "Santa Claus", "Robin Hood",
    "King Arthur", "Frodo", "Darth Vader", "Zeus", "Thor", "Hamlet", "Dracula", "Pinocchio", "Cinderella", "Siri", "Alexa",
]
GROUPS_PAST = [
    "the Beatles", "the Vikings", "the Romans", "the Aztecs", "the Brothers Grimm", "the Wright brothers",
]
GROUPS = [
    "the Avengers", "the Simpsons", "the Three Musketeers", "Romeo and Juliet",
]
ROLES = [
    "the author of Hamlet", "the author of Harry Potter", "the author of 1984", "the painter of the Mona Lisa", "the founder of Microsoft",
    "the founder of Amazon", "the inventor of the telephone", "the creator of Star Wars", "the creator of Linux", "the hero of the Odyssey",
    "the god of the sea in Greek myths", "the villain in Peter Pan", "the president", "the president of the United States", "the president of France",
    "the king of England", "the prime minister", "the prime minister of Japan", "the chancellor of Germany", "the pope", "the mayor of London",
    "the richest person in the world", "the world champion in chess", "the head of the United Nations", "the CEO of Apple", "the CEO of Google",
    "the best football player right now", "the president of Brazil",
]
TRADES = [
    "a doctor", "a nurse", "a teacher", "a developer", "an assistant", "a judge", "a baker", "an engineer", "a philosopher", "a translator",
]

# Who made ...?
PRODUCTS = [
    "the iPhone", "Windows", "Android", "the PlayStation", "the Xbox", "the Walkman", "Photoshop", "the Kindle", "the Game Boy", "the iPad",
    "the MacBook", "Gmail", "Excel", "the Beetle car", "the Mustang car", "Chrome", "Firefox", "the ThinkPad", "the Airbus A380", "the Boeing 747",
    "Nutella", "the Corolla car", "the Galaxy phone", "Lego", "Barbie", "the Prius car", "Google Maps", "PowerPoint", "Pac-Man",
]
ASSISTANTS = [
    "ChatGPT", "GPT-4", "Siri", "Alexa", "Claude", "Gemini", "Llama", "Copilot", "Cortana", "Grok", "DeepSeek", "AlphaGo", "Bixby", "Watson", "Mistral",
    "Deep Blue",
]
SOFTWARE = [
    "Python", "Linux", "Java", "JavaScript", "the C language", "C++", "the World Wide Web", "Git", "Tetris", "Minecraft", "Facebook", "Wikipedia", "Ruby",
    "TeX",
]
INVENTIONS = [
    "the telephone", "the light bulb", "the printing press", "the steam engine", "the radio", "dynamite", "the aeroplane", "basketball", "the piano",
    "paper", "the telescope", "the diesel engine", "the battery", "Esperanto", "gunpowder", "the zip fastener", "the Braille script", "Morse code",
]
WORKS = [
    "Star Wars", "Harry Potter", "Mickey Mouse", "Sherlock Holmes", "Winnie-the-Pooh", "Peter Pan", "Tintin", "James Bond", "the Muppets", "Pinocchio",
    "the Simpsons", "Dracula",
]
WRITTEN = [
    "Romeo and Juliet", "Don Quixote", "War and Peace", "The Hobbit", "Pride and Prejudice", "Moby-Dick", "Faust", "the Odyssey", "Frankenstein",
    "Oliver Twist",
]
PAINTED = [
    "the Mona Lisa", "Guernica", "The Starry Night", "The Scream", "The Night Watch",
]
COMPOSED = [
    "the Ninth Symphony", "The Four Seasons", "The Magic Flute", "Swan Lake",
]
BUILDINGS = [
    "the pyramids of Giza", "the Great Wall of China", "the Eiffel Tower", "the Colosseum", "Stonehenge", "the Taj Mahal", "Machu Picchu",
    "the Parthenon",
]
FOUNDED = [
    "Apple", "Microsoft", "Amazon", "Google", "Tesla", "IKEA", "the Red Cross", "Rome", "Nintendo",
]
DISCOVERED = [
    "penicillin", "radium", "gravity", "X-rays", "oxygen", "the planet Uranus",
]
OWNED = [
    "YouTube", "Instagram", "WhatsApp", "LinkedIn", "GitHub", "Twitch",
]
# Who ...?
DOERS = [
    "bakes bread", "makes laws", "builds bridges", "trains athletes", "develops software", "designs houses", "writes newspapers", "repairs cars",
    "teaches children", "makes shoes", "makes honey", "creates websites", "grows wheat", "flies aeroplanes", "puts out fires", "wins a chess game",
    "answers the phone in a hotel",
]

# What is ...?
THINGS = [
    "a language model", "an AI assistant", "artificial intelligence", "a chatbot", "a robot", "a computer", "machine learning", "a neural network",
    "gravity", "photosynthesis", "democracy", "a whale", "a volcano", "chemistry", "a violin", "Paris", "London", "Japan", "the Eiffel Tower",
    "the Great Wall of China", "the moon", "the sun", "the Amazon river", "the internet", "a penguin", "an elephant", "chess", "football", "coffee",
    "yoga", "ice", "a passport", "a name", "an identity", "a human being", "a company", "Microsoft", "OpenAI", "Google", "ChatGPT", "Siri", "Alexa",
    "Claude", "Gemini", "Copilot", "Llama", "GPT-4", "Python", "Linux", "the Mona Lisa", "a haiku", "rice",
]
# What are ...?
KINDS_OF_THINGS = [
    "whales", "humans", "robots", "chatbots", "vitamins", "black holes", "penguins", "mushrooms", "verbs", "dinosaurs", "pronouns", "stars", "assistants",
    "language models",
]
CLAIMS = [
    "Is a whale a fish?", "Are robots alive?", "Are humans animals?", "Is Siri a person?", "Is Siri an AI?", "Is ChatGPT a robot?", "Is ChatGPT an AI?",
    "Is ChatGPT human?", "Is Alexa a real person?", "Is Paris in France?", "Is Linux made by Microsoft?", "Is Gemini made by Google?",
    "Is ChatGPT made by OpenAI?", "Is Claude made by Anthropic?", "Is ChatGPT made by Google?", "Is Alexa from Amazon?",
    "Was the telephone invented by Mozart?", "Was Python created by Guido van Rossum?", "Was the iPhone made by Apple?",
    "Was Windows developed by Apple?", "Did Google build the pyramids?", "Did Apple make the Xbox?", "Did OpenAI make ChatGPT?",
    "Did Amazon create Alexa?", "Did Meta train Llama?", "Did Einstein invent the radio?", "Did Shakespeare write Hamlet?", "Is Batman real?",
    "Is Tom a common name?", "Is Shanghai the capital of China?", "Is an AI a person?", "Is a chatbot a human?", "Is a language model alive?",
    "Is Google a company?", "Is the moon a planet?", "Is a robot a machine?", "Are chatbots people?", "Are dogs mammals?",
    "Are computers smarter than people?", "Are tomatoes fruits?", "Do robots have feelings?", "Do computers think?", "Can an AI be creative?",
    "Does OpenAI own ChatGPT?", "Does Siri belong to Apple?", "Is Copilot the same as ChatGPT?", "Is Qwen a language model?",
]

# What is the name of ...?
NAMES = [
    "the capital of France", "the capital of Japan", "the capital of Italy", "the largest ocean", "our galaxy", "the tallest mountain", "Batman's city",
    "the river in London", "the first man on the moon", "Mickey Mouse's dog", "the largest planet", "the currency of Japan", "the red planet",
    "Sherlock Holmes's friend", "the wizard in The Lord of the Rings", "Harry Potter's owl", "the longest river in Africa", "the desert in North Africa",
    "the company behind Windows", "the assistant on an iPhone", "the chatbot of OpenAI", "the fear of spiders", "the study of stars",
    "the author of Hamlet",
]
# What do you call ...?
CALLED = [
    "a baby dog", "a baby cat", "a group of lions", "a person who bakes", "a house made of snow", "the coldest season", "a shape with three sides",
    "a doctor for animals", "a word for an action", "the day after Monday", "a young cow", "someone who writes programs", "a place with many books",
]
# How should I address ...?
ADDRESSED = [
    "a judge", "a king", "my teacher", "my new boss", "a professor", "an ambassador", "my girlfriend's mother",
]
# What should I call ...?
SUGGESTED = [
    "my cat", "my dog", "my boat", "my bakery", "my band", "my goldfish", "my robot", "my chatbot", "my company", "my horse", "my blog", "my baby",
    "my project", "my parrot",
]
